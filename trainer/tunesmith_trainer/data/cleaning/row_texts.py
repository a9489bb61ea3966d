"""The texts of a row: what rules read, and how they change them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tunesmith_trainer.data.rows import Message, Row, ToolCall

Change = Callable[[str], str]


def texts_in(row: Row) -> Iterator[str]:
    """Everything that is said in a row; nothing of the tools that it may call."""
    if row.text is not None:
        yield row.text
    for message in (*row.messages, *row.rejected):
        yield message.said
    if row.rationale:
        yield row.rationale


def compared_text(row: Row) -> str:
    """What tells a row from others: all that is said but the system prompts, which rows share."""
    if row.text is not None:
        return row.text
    turns = (*row.messages, *row.rejected[row.num_prompt :])
    return "\n".join(turn.said for turn in turns if turn.role != "system")


def last_answer(row: Row) -> str | None:
    """What the row teaches last; None of a text, which answers nothing."""
    return row.messages[-1].content if row.messages else None


def last_question(row: Row) -> str | None:
    """The user's turn before the last answer."""
    said = [turn.content for turn in row.messages[:-1] if turn.role == "user"]
    return said[-1] if said else None


def with_texts(row: Row, change: Change) -> Row:
    """The row with every text changed; the same object where nothing changes."""
    # As of most rows: to make them anew takes longer than the rules do.
    if all(change(text) == text for text in _own_texts(row)):
        return row
    return replace(
        row,
        text=None if row.text is None else change(row.text),
        messages=tuple(_turn(message, change) for message in row.messages),
        rejected=tuple(_turn(message, change) for message in row.rejected),
        rationale=change(row.rationale),
        # Changed as the prompt is, so that they are found in it still.
        highlights=tuple(replace(one, text=change(one.text)) for one in row.highlights),
    )


def _own_texts(row: Row) -> Iterator[str]:
    """Every text of a row by itself, as `with_texts` changes it."""
    if row.text is not None:
        yield row.text
    for message in (*row.messages, *row.rejected):
        yield message.content
        yield message.thinking
        for call in message.tool_calls:
            yield from strings_in(call.arguments)
    yield row.rationale
    yield from (one.text for one in row.highlights)


def strings_in(value: Any) -> Iterator[str]:
    """The texts in a JSON value, such as the arguments of a call, without the names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_in(part)


def _turn(message: Message, change: Change) -> Message:
    calls = tuple(
        ToolCall(name=call.name, arguments=_value(call.arguments, change), id=call.id)
        for call in message.tool_calls
    )
    return replace(
        message,
        content=change(message.content),
        thinking=change(message.thinking),
        tool_calls=calls,
    )


def _value(value: Any, change: Change) -> Any:
    """The arguments of a call, whatever they are made of; their names stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _value(part, change) for name, part in value.items()}
    return [_value(part, change) for part in value] if isinstance(value, list) else value
