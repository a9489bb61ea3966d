"""Raw rows to conversations or texts: what the fields of each format mean.

Follows `readers`, and is followed by `cleaning`. `messages` and `sharegpt` are lists of turns,
`alpaca` one question and answer, `promptCompletion` the same or lists of turns, `dialogues` turns
that alternate, `text` plain text. Whatever follows the last answer of a conversation teaches
nothing and is left out.
Two turns of one speaker in a row are one turn, as chat templates have it, and are counted. What is
null is an empty answer, or refused: nobody asks nothing.
`preference` is two conversations with one prompt, by the conventions of TRL: the prompt is a field
of its own, or the turns that both begin with.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import Message, Problems, RawRow, Row, Tool, names_of
from tunesmith_trainer.data.tool_calls import RefusedRowError, read_tools, text_of
from tunesmith_trainer.data.turns import (
    conversation,
    message_of,
    refuse_fields,
    sharegpt_conversation,
    turns_of_cell,
)

# Weights of rows, and calls of nobody: to pass over them would train something else silently.
_UNSUPPORTED: Final = ("tool_calls", "function_call", "train", "weight")
# What may be text or a list of turns.
_MAYBE_TURNS: Final = frozenset({"prompt", "completion", "chosen", "rejected"})


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two ways on from one prompt."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


@dataclass(frozen=True, slots=True)
class _Format:
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Any], list[Message] | str | _Pair]


def detect_format(first: RawRow, *, columns: Mapping[str, str]) -> str:
    """The format whose fields the first row has.

    Raises:
        BadInputError: it has the fields of no format, or of several.
    """
    if isinstance(first.value, list):
        return "dialogues"
    fields = set(_renamed(first.value, columns))
    # NB: a row may have more fields than its format, such as an id; but not those of two formats,
    # for a guess would train one half of the row silently.
    matching = [
        name for name, form in _FORMATS.items() if form.required and fields >= set(form.required)
    ]
    if len(matching) == 1:
        return matching[0]
    known = "; ".join(f"{n}: {', '.join(f.required)}" for n, f in _FORMATS.items() if f.required)
    rule = (
        f"these are fields of several formats ({', '.join(matching)})"
        if matching
        else f"no format has these fields ({known})"
    )
    raise BadInputError(
        Reason.DATASET_INVALID,
        f"{first.source}: given the fields {names_of(first.value)}; {rule}; "
        "name the format in dataset.format, and other names of fields in dataset.columns",
    )


def detect_first_format(
    rows: Sequence[RawRow], *, columns: Mapping[str, str], max_bad_rows: int
) -> str:
    """The format of the first row that has one, among as many as may be bad.

    Raises:
        BadInputError: none has, or there is no row.
    """
    if not rows:
        raise BadInputError(
            Reason.DATASET_INVALID,
            "dataset.train: all of its rows are bad; mend them, or name other data",
        )
    for row in rows[:max_bad_rows]:
        with suppress(BadInputError):
            return detect_format(row, columns=columns)
    return detect_format(rows[min(max_bad_rows, len(rows) - 1)], columns=columns)


def unused_fields(names: Iterable[str], form: str, columns: Mapping[str, str]) -> list[str]:
    """Those of a row's fields that a format does not read."""
    known = {*_FORMATS[form].required, *_FORMATS[form].optional}
    read = {columns.get(field, field) for field in known}
    return [name for name in names if name not in read]


def read_format(
    raw: Iterable[RawRow], *, name: str, columns: Mapping[str, str], problems: Problems
) -> Iterator[Row]:
    """The rows of format `name`, one by one; those that break it go to `problems`.

    Raises:
        BadInputError: `columns` maps a field that the format has not.
    """
    known = (*_FORMATS[name].required, *_FORMATS[name].optional)
    unknown = [field for field in columns if field not in known]
    if unknown:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.columns: given {', '.join(unknown)}; the format {name} has the fields "
            f"{', '.join(known) or '(none)'}; map those",
        )
    for raw_row in raw:
        try:
            yield _read_row(raw_row, _FORMATS[name], name, columns)
        except RefusedRowError as refused:
            problems.add(
                raw_row.source, given=refused.given, rule=refused.rule, remedy=refused.remedy
            )


def _read_row(raw: RawRow, form: _Format, name: str, columns: Mapping[str, str]) -> Row:
    if isinstance(raw.value, list) != (name == "dialogues"):
        raise RefusedRowError(
            given="a list of turns" if isinstance(raw.value, list) else "an object with fields",
            rule=f"all rows of a data set have one format, here {name}",
            remedy="bring the rows into one format",
        )
    value = raw.value if isinstance(raw.value, list) else _fields(raw, form, name, columns)
    content = form.read(value)
    if isinstance(content, str):
        return Row(source=raw.source, text=content)
    tools = read_tools(value.get("tools")) if isinstance(value, Mapping) else ()
    if isinstance(content, _Pair):
        return _pair_row(content, source=raw.source, tools=tools)
    turns = _joined(content)
    return Row(
        source=raw.source,
        messages=_up_to_last_answer(turns),
        num_joined=len(content) - len(turns),
        tools=tools,
    )


def _joined(messages: Sequence[Message]) -> list[Message]:
    """The turns, those of one speaker in a row as one, a blank line between them."""
    turns: list[Message] = []
    for message in messages:
        if turns and _are_one(turns[-1], message):
            said = (turns[-1].content, message.content)
            whole = "\n\n".join(text for text in said if text.strip())
            turns[-1] = turns[-1].with_content(whole)
        else:
            turns.append(message)
    return turns


def _are_one(first: Message, second: Message) -> bool:
    # Tools may answer several calls, and templates show each answer by itself.
    return (
        first.role == second.role
        and second.role in {"user", "assistant"}
        and first.trained == second.trained
        and not (first.tool_calls or second.tool_calls or second.thinking)
    )


def _fields(raw: RawRow, form: _Format, name: str, columns: Mapping[str, str]) -> Mapping[str, Any]:
    given = raw.value
    fields = _renamed(given, columns)
    missing = [columns.get(field, field) for field in form.required if field not in fields]
    if missing:
        raise RefusedRowError(
            given=f"the fields {names_of(given)}",
            rule=f"rows of format {name} have {', '.join(missing)}",
            remedy="name other fields in dataset.columns; all rows have one format",
        )
    refused = _UNSUPPORTED if "tools" in form.optional else (*_UNSUPPORTED, "tools")
    refuse_fields(fields, refused)
    if raw.is_typed:
        return fields
    read = {name: turns_of_cell(fields[name], field=name) for name in _MAYBE_TURNS & fields.keys()}
    return fields | read


def _renamed(given: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    # A column that stands for a field is gone under its own name: with `prompt: text`, the row has
    # a prompt and no text, and cannot be taken for the format `text`.
    renamed = {field: given[name] for field, name in columns.items() if name in given}
    taken = set(columns.values())
    return {key: value for key, value in given.items() if key not in taken} | renamed


def _up_to_last_answer(messages: list[Message]) -> tuple[Message, ...]:
    answers = [at for at, message in enumerate(messages) if message.is_trained]
    if not answers:
        raise RefusedRowError(
            given=f"turns of {', '.join(message.role for message in messages) or 'nobody'}",
            rule="a conversation has an assistant turn that is trained",
            remedy="add the answer, or leave the row out",
        )
    return tuple(messages[: answers[-1] + 1])


def _messages(fields: Mapping[str, Any]) -> list[Message]:
    return conversation(fields["messages"], field="messages")


def _sharegpt(fields: Mapping[str, Any]) -> list[Message]:
    said = sharegpt_conversation(fields["conversations"], field="conversations")
    return [*_system(fields), *said]


def _alpaca(fields: Mapping[str, Any]) -> list[Message]:
    asked = message_of("user", fields["instruction"], field="instruction").content
    parts = [asked, text_of(fields.get("input"), field="input")]
    return [
        *_system(fields),
        Message(role="user", content="\n\n".join(part for part in parts if part.strip())),
        Message(role="assistant", content=text_of(fields["output"], field="output")),
    ]


def _prompt_completion(fields: Mapping[str, Any]) -> list[Message]:
    prompt = fields["prompt"]
    completion = _answer(fields["completion"], field="completion")
    if isinstance(prompt, list):
        # As TRL reads it: what the assistant says in a prompt is given, and not learnt.
        said = conversation(prompt, field="prompt")
        return [*_system(fields), *(replace(turn, trained=False) for turn in said), *completion]
    return [*_system(fields), message_of("user", prompt, field="prompt"), *completion]


def _preference(fields: Mapping[str, Any]) -> _Pair:
    chosen, rejected = (_answer(fields[name], field=name) for name in ("chosen", "rejected"))
    prompt = fields.get("prompt")
    if isinstance(prompt, list):
        return _Pair(conversation(prompt, field="prompt"), chosen, rejected)
    # As TRL reads it: answers that are lists of turns begin with the prompt, whatever text stands
    # beside them, as it does in the UltraFeedback data.
    if isinstance(fields["chosen"], list):
        shared = 0
        while chosen[shared : shared + 1] == rejected[shared : shared + 1] != []:
            shared += 1
        return _Pair(chosen[:shared], chosen[shared:], rejected[shared:])
    if prompt is None:
        raise RefusedRowError(
            given="answers that are text, and no prompt",
            rule="answers that are text have a prompt; those that are lists of turns begin with it",
            remedy="add the prompt",
        )
    asked = Message(role="user", content=text_of(prompt, field="prompt"))
    return _Pair([*_system(fields), asked], chosen, rejected)


def _answer(value: Any, *, field: str) -> list[Message]:
    if isinstance(value, list):
        return conversation(value, field=field)
    return [Message(role="assistant", content=text_of(value, field=field))]


def _pair_row(pair: _Pair, *, source: str, tools: tuple[Tool, ...]) -> Row:
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not answer or answer[0].role != "assistant":
            raise RefusedRowError(
                given=f"{name}: after the turns that both share, "
                f"{f'one of {answer[0].role}' if answer else 'nothing'}",
                rule="both answers go on from one prompt, and begin with an assistant turn",
                remedy="give both the same turns up to the answer",
            )
    prompt, *answers = (_joined(turns) for turns in (pair.prompt, pair.chosen, pair.rejected))
    chosen, rejected = map(_up_to_last_answer, answers)
    # White space at the ends is what a template cuts off.
    if [(turn.role, turn.said.strip()) for turn in chosen] == [
        (turn.role, turn.said.strip()) for turn in rejected
    ]:
        raise RefusedRowError(
            given="the same answer as chosen and as rejected",
            rule="a preference has two answers, one better than the other",
            remedy="leave the row out, or mend one of them",
        )
    num_given = sum(map(len, (pair.prompt, pair.chosen, pair.rejected)))
    return Row(
        source=source,
        messages=(*prompt, *chosen),
        rejected=(*prompt, *rejected),
        num_prompt=len(prompt),
        num_joined=num_given - sum(map(len, (prompt, *answers))),
        tools=tools,
    )


def _system(fields: Mapping[str, Any]) -> list[Message]:
    content = text_of(fields.get("system"), field="system")
    return [Message(role="system", content=content)] if content.strip() else []


def _dialogue(turns: Any) -> list[Message]:
    return [
        message_of("assistant" if at % 2 else "user", turn, field=f"turn {at + 1}")
        for at, turn in enumerate(turns)
    ]


_FORMATS: Final[Mapping[str, _Format]] = {
    "messages": _Format(required=("messages",), optional=("tools",), read=_messages),
    "sharegpt": _Format(required=("conversations",), optional=("system", "tools"), read=_sharegpt),
    "alpaca": _Format(
        required=("instruction", "output"), optional=("input", "system"), read=_alpaca
    ),
    "promptCompletion": _Format(
        required=("prompt", "completion"), optional=("system", "tools"), read=_prompt_completion
    ),
    "text": _Format(
        required=("text",), optional=(), read=lambda fields: text_of(fields["text"], field="text")
    ),
    "dialogues": _Format(required=(), optional=(), read=_dialogue),
    "preference": _Format(
        required=("chosen", "rejected"), optional=("prompt", "system", "tools"), read=_preference
    ),
}
