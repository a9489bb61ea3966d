"""Turns of conversations as rows have them: role, words or parts of words, calls, what is trained.

`formats` reads the conversations of every format with it. Whatever a turn says that would change
what is trained is read or refused, never passed over.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tunesmith_trainer.data.rows import Message, ToolCall, described, names_of
from tunesmith_trainer.data.tool_calls import RefusedRowError, from_json, read_calls, text_of

ROLES: Final = ("system", "user", "assistant", "tool")
_OPENAI_ROLES: Final[Mapping[str, str]] = {role: role for role in ROLES}
_CALLS: Final = "function_call"
_SHAREGPT_ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    # LLaMA-Factory's: the value is the call itself.
    _CALLS: "assistant",
    "tool": "tool",
    "function_response": "tool",
    "observation": "tool",
}

# Axolotl's two names, and OpenAI's.
_TRAIN: Final = ("train", "training", "weight")
# DeepSeek's and Qwen's name, that of gpt-oss and TRL, and vLLM's.
_THINKING: Final = ("reasoning_content", "thinking", "reasoning")
# Names that other data has for who speaks, and for parts of content that are no text.
_SPEAKERS: Final = frozenset({*_SHAREGPT_ROLES, "bot", "developer", "function", "ai", "chatgpt"})
_PARTS: Final = frozenset(
    {"audio", "file", "image", "image_url", "input_audio", "refusal", "video"}
)
# No text of a prompt begins so but by intent. The second quote is Python's, and never JSON.
_LIKE_TURNS: Final = re.compile(r"""\s*\[\s*\{\s*(["'])(role|content)\1\s*:""")
_UNSUPPORTED: Final = (_CALLS, "tools")


def conversation(value: Any, *, field: str) -> list[Message]:
    """The turns of a list of {role, content}, as OpenAI has them.

    Raises:
        RefusedRowError: it is none, or a turn breaks a rule.
    """
    return [
        _turn(turn, who="role", what="content", roles=_OPENAI_ROLES)
        for turn in _turns(value, field=field)
    ]


def sharegpt_conversation(value: Any, *, field: str) -> list[Message]:
    """The turns of a list of {from, value}, as ShareGPT has them.

    Raises:
        RefusedRowError: it is none, or a turn breaks a rule.
    """
    return [
        _turn(turn, who="from", what="value", roles=_SHAREGPT_ROLES)
        for turn in _turns(value, field=field)
    ]


def turns_of_cell(text: str, *, field: str) -> Any:
    """The list of turns that a cell of a CSV file holds as JSON, or else its text.

    Raises:
        RefusedRowError: it begins like such a list, and is none: as Python prints lists, say.
    """
    if not _LIKE_TURNS.match(text):
        return text
    rule = f"a cell that begins as a list of turns is JSON, here in {field}"
    try:
        return _turns(text, field=field)
    except RefusedRowError as refused:
        remedy = "write the list with json.dumps, or the text in another way"
        raise RefusedRowError(given=refused.given, rule=rule, remedy=remedy) from None


def message_of(role: str, value: Any, *, field: str) -> Message:
    """A turn; null is an answer that is empty, as `cleaning` counts them, and no question.

    Raises:
        RefusedRowError: it is no text, or nothing was asked.
    """
    if value is None and role != "assistant":
        raise RefusedRowError(
            given=f"{field}: null in a turn of {role}",
            rule="a turn that is no answer has text",
            remedy="write it, or leave the turn or the row out",
        )
    return Message(role=role, content=_content(value, field=field))


def refuse_fields(fields: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Refuse what would change the training, and cannot be said there.

    Raises:
        RefusedRowError: one of the fields is given, and not empty.
    """
    for name in names:
        if fields.get(name) not in (None, [], ""):
            raise RefusedRowError(
                given=f"{name}: {described(fields[name])}",
                rule=f"{name} has no meaning here, where it would change what is trained: calls "
                "are tool_calls of an assistant's turn, tools a field of the row, train one of a "
                "turn",
                remedy=f"move it there, or leave {name} out",
            )


def _turns(value: Any, *, field: str) -> list[Mapping[str, Any]]:
    # In a csv file, and often in a parquet file, a list is its JSON text.
    rule = f"{field} is a list of turns, or its JSON text"
    listed = from_json(value, field=field, rule=rule) if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(turn, dict) for turn in listed):
        raise RefusedRowError(
            given=f"{field}: {described(value)}",
            rule=rule,
            remedy="write [{…}, {…}]",
        )
    for turn in listed:
        refuse_fields(turn, _UNSUPPORTED)
    return listed


def _turn(turn: Mapping[str, Any], *, who: str, what: str, roles: Mapping[str, str]) -> Message:
    given_calls = turn.get("tool_calls")
    # An answer that calls tools needs no words beside them.
    if who not in turn or (what not in turn and not given_calls):
        raise RefusedRowError(
            given=f"a turn with {names_of(turn)}",
            rule=f"a turn has {who} and {what}",
            remedy="add what is missing",
        )
    role = roles.get(turn[who]) if isinstance(turn[who], str) else None
    if role is None:
        raise RefusedRowError(
            given=f"{who}: {described(turn[who], words=_SPEAKERS)}",
            rule=f"{who} is one of {', '.join(roles)}",
            remedy="rename the role",
        )
    if turn[who] == _CALLS:
        content, calls = "", read_calls(turn[what], field=what)
    else:
        content = message_of(role, turn.get(what), field=what).content
        calls = _calls_of(role, given_calls)
    return Message(
        role=role,
        content=content,
        tool_calls=calls,
        tool_call_id=_name_of(turn, "tool_call_id", role=role),
        name=_name_of(turn, "name", role=role),
        trained=_trained(turn, role=role),
        thinking=_thinking_of(turn, role=role),
    )


def _calls_of(role: str, given: Any) -> tuple[ToolCall, ...]:
    # Columnar files have the field in every turn.
    if given in (None, [], ""):
        return ()
    if role != "assistant":
        raise RefusedRowError(
            given=f"tool_calls in a turn of {role}",
            rule="the assistant calls tools, nobody else",
            remedy="move them to a turn of the assistant",
        )
    return read_calls(given, field="tool_calls")


def _name_of(turn: Mapping[str, Any], field: str, *, role: str) -> str | None:
    # Names of other people are no part of what templates show.
    given = turn.get(field)
    return text_of(given, field=field) if given is not None and role == "tool" else None


def _thinking_of(turn: Mapping[str, Any], *, role: str) -> str:
    given = {name: turn[name] for name in _THINKING if turn.get(name) not in (None, "")}
    texts = {text_of(value, field=name) for name, value in given.items()}
    if texts and role != "assistant":
        raise RefusedRowError(
            given=f"{' and '.join(given)} in a turn of {role}",
            rule="the assistant thinks before it answers, nobody else",
            remedy="leave it out there",
        )
    if len(texts) > 1:
        raise RefusedRowError(
            given=f"{' and '.join(given)} that differ",
            rule="an answer has one thinking",
            remedy="leave one of them out",
        )
    return next(iter(texts), "")


def _trained(turn: Mapping[str, Any], *, role: str) -> bool:
    given = {name: turn[name] for name in _TRAIN if turn.get(name) is not None}
    for name, value in given.items():
        if value not in (0, 1) or (name == "weight") == isinstance(value, bool):
            raise RefusedRowError(
                given=f"{name}: {described(value)}",
                rule="train and training are true or false, weight is 0 or 1",
                remedy=f"write one of them, or leave {name} out",
            )
        # Converters write `false` beside turns that are not trained anyway.
        if value and role != "assistant":
            raise RefusedRowError(
                given=f"{name}: {str(value).lower()} in a turn of {role}",
                rule="only what the assistant says is trained",
                remedy=f"leave {name} out there",
            )
    if len(set(map(bool, given.values()))) > 1:
        raise RefusedRowError(
            given=f"{' and '.join(given)} that say both yes and no",
            rule="a turn is trained or is not",
            remedy="leave one of them out",
        )
    return all(given.values())


def _content(value: Any, *, field: str) -> str:
    """Words as text, or as parts of type text: these are joined by line ends, as vLLM does."""
    if not isinstance(value, list):
        return text_of(value, field=field)
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise RefusedRowError(
                given=f"a part of {field} of type {described(kind, words=_PARTS)}",
                rule="a model of text learns from parts of type text alone",
                remedy='write {"type": "text", "text": "…"}, or leave the row out',
            )
        texts.append(text_of(part.get("text"), field=f"{field}.text"))
    return "\n".join(texts)
