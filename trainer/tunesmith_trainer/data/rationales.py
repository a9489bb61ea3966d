"""What stands in the column that says why an answer is right: `dataset.rationale`.

`loading` calls `with_rationales` behind `formats`, which passes over columns that no format has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from tunesmith_trainer.data.labels import fields_of, require_column, with_raw
from tunesmith_trainer.data.rows import Message, Problems, RawRow, Row, described

_FIELD: Final = "dataset.rationale"


def with_rationales(
    rows: Iterable[Row],
    *,
    raw: Iterable[RawRow],
    column: str | None,
    problems: Problems,
    is_required: bool,
) -> Iterator[Row]:
    """The rows with their rationales, which some may lack; what is no text goes to `problems`.

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
        value = fields_of(found).get(column)
        if not _is_text(value, column, row.source, problems):
            continue
        yield replace(row, rationale=(value or "").strip())


def rationale_row(row: Row, instruction: str) -> Row | None:
    """The row asked why, and its rationale as the only answer that is learnt.

    None of a row without a rationale, and of one whose last turn answers no user.
    """
    prompt = row.messages[:-1]
    if not row.rationale or not prompt or prompt[-1].role != "user":
        return None
    asked = prompt[-1].with_content(f"{prompt[-1].content}\n\n{instruction}")
    told = [replace(turn, trained=turn.role != "assistant") for turn in prompt[:-1]]
    return replace(row, messages=(*told, asked, Message("assistant", row.rationale)), rationale="")


def _is_text(value: Any, column: str, source: str, problems: Problems) -> bool:
    if value is None or isinstance(value, str):
        return True
    problems.add(
        source,
        given=f"{column}: {described(value)}",
        rule="a rationale is text, or is not there",
        remedy="mend it, or name another column",
    )
    return False
