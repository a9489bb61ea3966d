"""Raw rows to conversations or texts: what the fields of each format mean.

Follows `readers`, and is followed by `cleaning`. `messages` and `sharegpt` are lists of turns,
`alpaca` and `promptCompletion` one question and answer, `dialogues` turns that alternate, `text`
plain text. Whatever follows the last answer of a conversation teaches nothing and is left out.
Two turns of one speaker in a row are one turn, as chat templates have it, and are counted. What is
null is an empty answer, or refused: nobody asks nothing.
`preference` is two conversations with one prompt, by the conventions of TRL: the prompt is a field
of its own, or the turns that both begin with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import Message, Problems, RawRow, Row, quoted

ROLES: Final = ("system", "user", "assistant", "tool")

_SHAREGPT_ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "function_response": "tool",
    "observation": "tool",
}

# Fields that would change what is trained. To pass over them would train something else silently.
_UNSUPPORTED: Final = ("tool_calls", "function_call", "train", "weight", "tools")


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """A row breaks its format: what was given, the rule, and what to do."""

    def __init__(self, *, given: str, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.parts = {"given": given, "rule": rule, "remedy": remedy}


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
        f"{first.source}: given the fields {', '.join(sorted(map(str, first.value)))}; {rule}; "
        "name the format in dataset.format, and other names of fields in dataset.columns",
    )


def read_format(
    raw: Sequence[RawRow], *, name: str, columns: Mapping[str, str], problems: Problems
) -> list[Row]:
    """The rows of format `name`; those that break it go to `problems`.

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
    rows = []
    for raw_row in raw:
        try:
            rows.append(_read_row(raw_row, _FORMATS[name], name, columns))
        except _Refused as refused:
            problems.add(raw_row.source, **refused.parts)
    return rows


def _read_row(raw: RawRow, form: _Format, name: str, columns: Mapping[str, str]) -> Row:
    if isinstance(raw.value, list) != (name == "dialogues"):
        raise _Refused(
            given="a list of turns" if isinstance(raw.value, list) else "an object with fields",
            rule=f"all rows of a data set have one format, here {name}",
            remedy="bring the rows into one format",
        )
    value = raw.value if isinstance(raw.value, list) else _fields(raw.value, form, name, columns)
    content = form.read(value)
    if isinstance(content, str):
        return Row(source=raw.source, text=content)
    if isinstance(content, _Pair):
        return _pair_row(content, source=raw.source)
    turns = _joined(content)
    return Row(
        source=raw.source,
        messages=_up_to_last_answer(turns),
        num_joined=len(content) - len(turns),
    )


def _joined(messages: Sequence[Message]) -> list[Message]:
    """The turns, those of one speaker in a row as one, a blank line between them."""
    turns: list[Message] = []
    for message in messages:
        # Tools may answer several calls, and templates show each answer by itself.
        if turns and turns[-1].role == message.role and message.role in {"user", "assistant"}:
            said = (turns[-1].content, message.content)
            whole = "\n\n".join(text for text in said if text.strip())
            turns[-1] = Message(role=message.role, content=whole)
        else:
            turns.append(message)
    return turns


def _fields(
    given: Mapping[str, Any], form: _Format, name: str, columns: Mapping[str, str]
) -> Mapping[str, Any]:
    fields = _renamed(given, columns)
    missing = [columns.get(field, field) for field in form.required if field not in fields]
    if missing:
        raise _Refused(
            given=f"the fields {', '.join(sorted(map(str, given)))}",
            rule=f"rows of format {name} have {', '.join(missing)}",
            remedy="name other fields in dataset.columns; all rows have one format",
        )
    _refuse_unsupported(given)
    return fields


def _renamed(given: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    # A column that stands for a field is gone under its own name: with `prompt: text`, the row has
    # a prompt and no text, and cannot be taken for the format `text`.
    renamed = {field: given[name] for field, name in columns.items() if name in given}
    taken = set(columns.values())
    return {key: value for key, value in given.items() if key not in taken} | renamed


def _refuse_unsupported(fields: Mapping[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if fields.get(name) not in (None, [], ""):
            raise _Refused(
                given=f"{name}: {quoted(fields[name])}",
                rule="rows cannot say this: every assistant turn is trained, and its words are "
                "its content",
                remedy=f"leave {name} out",
            )


def _up_to_last_answer(messages: list[Message]) -> tuple[Message, ...]:
    answers = [at for at, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise _Refused(
            given=f"turns of {', '.join(message.role for message in messages) or 'nobody'}",
            rule="a conversation has an assistant turn",
            remedy="add the answer, or leave the row out",
        )
    return tuple(messages[: answers[-1] + 1])


def _text(value: Any, *, field: str) -> str:
    """Text as given; null is empty text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Refused(
            given=f"{field}: {quoted(value)}",
            rule=f"{field} is text",
            remedy="write it as text, in quotes",
        )
    # json.loads accepts "\ud800"; no tokenizer and no UTF-8 file can take it.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _Refused(
            given=f"{field}: {quoted(value)}",
            rule="text is Unicode, without halves of surrogate pairs",
            remedy="check what escaped it",
        )
    return value


def _turns(value: Any, *, field: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise _Refused(
            given=f"{field}: {quoted(value)}",
            rule=f"{field} is a list of turns",
            remedy="write [{…}, {…}]",
        )
    for turn in value:
        _refuse_unsupported(turn)
    return value


def _turn(turn: Mapping[str, Any], *, who: str, what: str, roles: Mapping[str, str]) -> Message:
    if who not in turn or what not in turn:
        raise _Refused(
            given=f"a turn with {', '.join(turn) or 'no fields'}",
            rule=f"a turn has {who} and {what}",
            remedy="add what is missing",
        )
    role = roles.get(turn[who]) if isinstance(turn[who], str) else None
    if role is None:
        raise _Refused(
            given=f"{who}: {quoted(turn[who])}",
            rule=f"{who} is one of {', '.join(roles)}",
            remedy="rename the role",
        )
    return _said(role, turn[what], field=what)


def _said(role: str, value: Any, *, field: str) -> Message:
    """A turn; null is an answer that is empty, as `cleaning` counts them, and no question."""
    if value is None and role != "assistant":
        raise _Refused(
            given=f"{field}: null in a turn of {role}",
            rule="a turn that is no answer has text",
            remedy="write it, or leave the turn or the row out",
        )
    return Message(role=role, content=_text(value, field=field))


def _messages(fields: Mapping[str, Any]) -> list[Message]:
    return _conversation(fields["messages"], field="messages")


def _conversation(value: Any, *, field: str) -> list[Message]:
    roles = {role: role for role in ROLES}
    turns = _turns(value, field=field)
    return [_turn(turn, who="role", what="content", roles=roles) for turn in turns]


def _sharegpt(fields: Mapping[str, Any]) -> list[Message]:
    turns = _turns(fields["conversations"], field="conversations")
    said = [_turn(turn, who="from", what="value", roles=_SHAREGPT_ROLES) for turn in turns]
    return [*_system(fields), *said]


def _alpaca(fields: Mapping[str, Any]) -> list[Message]:
    asked = _said("user", fields["instruction"], field="instruction").content
    parts = [asked, _text(fields.get("input"), field="input")]
    return [
        *_system(fields),
        Message(role="user", content="\n\n".join(part for part in parts if part.strip())),
        Message(role="assistant", content=_text(fields["output"], field="output")),
    ]


def _prompt_completion(fields: Mapping[str, Any]) -> list[Message]:
    return [
        *_system(fields),
        _said("user", fields["prompt"], field="prompt"),
        Message(role="assistant", content=_text(fields["completion"], field="completion")),
    ]


def _preference(fields: Mapping[str, Any]) -> _Pair:
    chosen, rejected = (_answer(fields[name], field=name) for name in ("chosen", "rejected"))
    prompt = fields.get("prompt")
    if isinstance(prompt, list):
        return _Pair(_conversation(prompt, field="prompt"), chosen, rejected)
    # As TRL reads it: answers that are lists of turns begin with the prompt, whatever text stands
    # beside them, as it does in the UltraFeedback data.
    if isinstance(fields["chosen"], list):
        shared = 0
        while chosen[shared : shared + 1] == rejected[shared : shared + 1] != []:
            shared += 1
        return _Pair(chosen[:shared], chosen[shared:], rejected[shared:])
    if prompt is None:
        raise _Refused(
            given="answers that are text, and no prompt",
            rule="answers that are text have a prompt; those that are lists of turns begin with it",
            remedy="add the prompt",
        )
    asked = Message(role="user", content=_text(prompt, field="prompt"))
    return _Pair([*_system(fields), asked], chosen, rejected)


def _answer(value: Any, *, field: str) -> list[Message]:
    if isinstance(value, list):
        return _conversation(value, field=field)
    return [Message(role="assistant", content=_text(value, field=field))]


def _pair_row(pair: _Pair, *, source: str) -> Row:
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not answer or answer[0].role != "assistant":
            raise _Refused(
                given=f"{name}: after the turns that both share, "
                f"{f'one of {answer[0].role}' if answer else 'nothing'}",
                rule="both answers go on from one prompt, and begin with an assistant turn",
                remedy="give both the same turns up to the answer",
            )
    prompt, *answers = (_joined(turns) for turns in (pair.prompt, pair.chosen, pair.rejected))
    chosen, rejected = map(_up_to_last_answer, answers)
    # White space at the ends is what a template cuts off.
    if [(turn.role, turn.content.strip()) for turn in chosen] == [
        (turn.role, turn.content.strip()) for turn in rejected
    ]:
        raise _Refused(
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
    )


def _system(fields: Mapping[str, Any]) -> list[Message]:
    content = _text(fields.get("system"), field="system")
    return [Message(role="system", content=content)] if content.strip() else []


def _dialogue(turns: Any) -> list[Message]:
    return [
        _said("assistant" if at % 2 else "user", turn, field=f"turn {at + 1}")
        for at, turn in enumerate(turns)
    ]


_FORMATS: Final[Mapping[str, _Format]] = {
    "messages": _Format(required=("messages",), optional=(), read=_messages),
    "sharegpt": _Format(required=("conversations",), optional=("system",), read=_sharegpt),
    "alpaca": _Format(
        required=("instruction", "output"), optional=("input", "system"), read=_alpaca
    ),
    "promptCompletion": _Format(
        required=("prompt", "completion"), optional=("system",), read=_prompt_completion
    ),
    "text": _Format(
        required=("text",), optional=(), read=lambda fields: _text(fields["text"], field="text")
    ),
    "dialogues": _Format(required=(), optional=(), read=_dialogue),
    "preference": _Format(
        required=("chosen", "rejected"), optional=("prompt", "system"), read=_preference
    ),
}
