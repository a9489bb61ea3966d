"""What stands in the column that says which parts of a prompt are the reason: `dataset.highlights`.

`loading` calls `with_highlights` behind `formats`, which passes over columns that no format has. A
value is one highlight or a list of them, each as annotators leave it: text as the prompt has it, or
its first character and the one behind its last. Cells of CSV files hold the same as JSON, or text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from tunesmith_trainer.data.labels import fields_of, require_column, with_raw
from tunesmith_trainer.data.rows import Highlight, Problems, RawRow, Row, counted, described
from tunesmith_trainer.data.tool_calls import RefusedRowError

_FIELD: Final = "dataset.highlights"
_MEND: Final = "mend it, or leave the highlights of this row out"
Span = tuple[int, int]


def with_highlights(
    rows: Iterable[Row],
    *,
    raw: Iterable[RawRow],
    column: str | None,
    problems: Problems,
    is_required: bool,
) -> Iterator[Row]:
    """The rows with their highlights, which some may lack; what is none goes to `problems`.

    `raw` is what the rows were made of, in the same order, those that became none among them.

    Raises:
        BadInputError: `is_required`, and no row has such a column.
    """
    if column is None:
        yield from rows
        return
    if is_required:
        require_column(column, raw, path=_FIELD)
    for row, found in with_raw(rows, raw):
        try:
            value = fields_of(found).get(column)
            yield replace(row, highlights=_read(row, value if found.is_typed else _cell(value)))
        except RefusedRowError as refused:
            problems.add(
                row.source,
                given=f"{column}: {refused.given}",
                rule=refused.rule,
                remedy=refused.remedy,
            )


def spans_in(text: str, sought: str) -> list[Span]:
    """Where `sought` stands in `text`, from its first character to behind its last."""
    spans, at = [], text.find(sought)
    while at >= 0:
        spans.append((at, at + len(sought)))
        at = text.find(sought, at + 1)
    return spans


def _read(row: Row, value: Any) -> tuple[Highlight, ...]:
    """The highlights of a row; none where it has none.

    Raises:
        RefusedRowError: one is not in the prompt, or they cover all of it.
    """
    items = _items(value)
    if not items:
        return ()
    if row.text is not None:
        raise RefusedRowError(
            given=counted(len(items), "highlight"),
            rule="a text has no prompt that could be highlighted",
            remedy="give prompts and answers, or leave dataset.highlights out",
        )
    prompt = [turn.content for turn in row.messages[:-1]]
    found = tuple(_highlight(row, item, prompt) for item in items)
    _refuse_whole(row, found, prompt)
    return found


def _items(value: Any) -> list[Any]:
    if value in (None, "", []):
        return []
    # One range of its own is a list, too.
    return value if isinstance(value, list) and not _is_range(value) else [value]


def _cell(value: Any) -> Any:
    """What a cell of text stands for: JSON, or the words themselves."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))  # noqa: PLR2004


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _highlight(row: Row, item: Any, prompt: list[str]) -> Highlight:
    if isinstance(item, Mapping):
        # As Label Studio and Doccano write ranges, with labels beside them.
        item = [item.get("start"), item.get("end")]
    if _is_range(item):
        return _of_range(row, *item)
    if not isinstance(item, str):
        raise RefusedRowError(
            given=described(item),
            rule="a highlight is text, or [start, end] in characters of what the user says last",
            remedy=_MEND,
        )
    if not item.strip():
        raise RefusedRowError(
            given="a highlight without words", rule="a highlight covers something", remedy=_MEND
        )
    if not any(item.strip() in turn for turn in prompt):
        raise RefusedRowError(
            given=described(item),
            rule="a highlight stands in the prompt, letter by letter",
            remedy="write it as the prompt has it, or leave the highlights of this row out",
        )
    return Highlight(item.strip())


def _of_range(row: Row, start: int, end: int) -> Highlight:
    place = _last_of_user(row)
    last = "" if place is None else row.messages[place].content
    if not 0 <= start < end <= len(last) or not last[start:end].strip():
        raise RefusedRowError(
            given=f"characters {start} to {end}",
            rule=f"a range covers words among the {counted(len(last), 'character')} of what the "
            "user says last, and its end is behind its last character",
            remedy=_MEND,
        )
    words = last[start:end]
    text = words.strip()
    begins = start + len(words) - len(words.lstrip())
    return Highlight(text, [span[0] for span in spans_in(last, text)].index(begins))


def _refuse_whole(row: Row, highlights: Iterable[Highlight], prompt: list[str]) -> None:
    """Return if some word of the prompt is outside of all highlights.

    Raises:
        RefusedRowError: none is.
    """
    covered = spans_of(highlights, prompt, last=_last_of_user(row))
    for text, spans in zip(prompt, covered, strict=True):
        inside = {at for start, end in spans for at in range(start, end)}
        if any(not sign.isspace() and at not in inside for at, sign in enumerate(text)):
            return
    raise RefusedRowError(
        given="highlights of the whole prompt",
        rule="highlights tell some words of a prompt from others",
        remedy="highlight the words that decide, or leave the highlights of this row out",
    )


def spans_of(
    highlights: Iterable[Highlight], texts: list[str], *, last: int | None
) -> list[list[Span]]:
    """For each of `texts`, what is highlighted of it; `last` is that of what the user says last."""
    spans: list[list[Span]] = [[] for _ in texts]
    for one in highlights:
        if one.number is None:
            for place, text in enumerate(texts):
                spans[place] += spans_in(text, one.text)
        elif last is not None:
            spans[last] += spans_in(texts[last], one.text)[one.number : one.number + 1]
    return spans


def _last_of_user(row: Row) -> int | None:
    places = [at for at, turn in enumerate(row.messages[:-1]) if turn.role == "user"]
    return places[-1] if places else None
