"""Tools, calls, parts of content and what is trained: every shape that people's data has."""

import json
from typing import Any

import pytest

from tunesmith_trainer.data.formats import read_format
from tunesmith_trainer.data.rows import Message, Problems, RawRow, Row, ToolCall

ASK = {"role": "user", "content": "Is it cold in Oslo?"}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": {"at": "Oslo"}},
}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "-3"}
ANSWER = {"role": "assistant", "content": "Yes."}
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
# What is missing is null, as vLLM has it.
SERVED = {
    "type": "function",
    "function": {"name": "weather", "description": None, "parameters": {"type": "object"}},
}
CHAT = [ASK, CALLING, RESULT, ANSWER]


def _read(value: Any, *, name: str = "messages") -> Row:
    problems = Problems()
    rows = list(read_format([RawRow("a.jsonl:1", value)], name=name, columns={}, problems=problems))
    assert problems.shown == []
    return rows[0]


def _refused(value: Any, *, name: str = "messages") -> str:
    problems = Problems()
    raw = [RawRow("a.jsonl:1", value)]
    assert list(read_format(raw, name=name, columns={}, problems=problems)) == []
    return problems.shown[0]


AS_TEXT = CALL | {"function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
SHAREGPT = [
    {"from": "human", "value": "Is it cold in Oslo?"},
    {"from": "function_call", "value": '{"name": "weather", "arguments": {"at": "Oslo"}}'},
    {"from": "observation", "value": "-3"},
    {"from": "gpt", "value": "Yes."},
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messages", {"messages": CHAT, "tools": [TOOL]}),
        ("messages", {"messages": CHAT, "tools": json.dumps([TOOL])}),
        ("messages", {"messages": json.dumps(CHAT), "tools": json.dumps([FUNCTION])}),
        ("messages", {"messages": [ASK, CALLING | {"tool_calls": [AS_TEXT]}, RESULT, ANSWER],
                      "tools": [FUNCTION]}),
        ("sharegpt", {"conversations": SHAREGPT, "tools": json.dumps([FUNCTION])}),
    ],
)  # fmt: skip
def test_tools_and_calls_are_read_in_every_shape(name: str, value: Any) -> None:
    row = _read(value, name=name)

    assert [turn.role for turn in row.messages] == ["user", "assistant", "tool", "assistant"]
    (call,) = row.messages[1].tool_calls
    assert (call.name, dict(call.arguments)) == ("weather", {"at": "Oslo"})
    assert row.tools == (SERVED,)


def test_both_sides_of_a_preference_may_call_tools() -> None:
    other = {"role": "assistant", "content": "", "tool_calls": [AS_TEXT | {"id": "c2"}]}
    value = {"prompt": [ASK], "chosen": [CALLING], "rejected": [ANSWER], "tools": [TOOL]}

    row = _read(value, name="preference")

    assert row.messages[1].tool_calls == (ToolCall("weather", {"at": "Oslo"}, "c1"),)
    assert (row.tools, row.num_prompt) == ((SERVED,), 1)
    assert "the same answer" in _refused(value | {"rejected": [other]}, name="preference")


def test_answers_that_call_tools_are_not_joined_with_words() -> None:
    row = _read({"messages": [ASK, ANSWER, CALLING, RESULT, ANSWER]})

    assert (len(row.messages), row.num_joined) == (5, 0)


def test_parts_of_type_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "Is it"}, {"type": "text", "text": "cold?", "image": None}]

    assert _read({"messages": [ASK | {"content": parts}, ANSWER]}).messages[0] == Message(
        "user", "Is it\ncold?"
    )


@pytest.mark.parametrize("flag", [{"train": False}, {"training": False}, {"weight": 0}])
def test_an_answer_may_be_left_untrained(flag: dict[str, Any]) -> None:
    row = _read({"messages": [ASK | {"train": False}, ANSWER | flag, ASK, ANSWER]})
    last = _read({"messages": [ASK, ANSWER | {"weight": 1}, ASK, ANSWER | flag]})

    assert [turn.is_trained for turn in row.messages] == [False, False, False, True]
    # What follows the last answer that is trained teaches nothing.
    assert [turn.content for turn in last.messages] == ["Is it cold in Oslo?", "Yes."]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"messages": [ASK, ANSWER | {"train": False}]}, "an assistant turn that is trained"),
        ({"messages": [ASK | {"train": True}, ANSWER]}, "train: true in a turn of user; only what"),
        ({"messages": [ASK, ANSWER | {"weight": 0.5}]}, "weight: a number; train and training are"),
        ({"messages": [ASK, ANSWER | {"weight": 1, "train": False}]}, "say both yes and no"),
        ({"messages": [ASK, ANSWER], "weight": 2}, "weight: a number; weight has no meaning"),
        ({"messages": [ASK | {"content": [{"type": "image_url"}]}, ANSWER]}, "type 'image_url'"),
        ({"messages": [ASK | {"content": ["x"]}, ANSWER]}, "a part of content of type null"),
        ({"messages": [ASK | {"tool_calls": [CALL]}, ANSWER]}, "tool_calls in a turn of user"),
        ({"messages": [ASK, CALLING | {"tool_calls": [{"id": "x"}]}]}, "functions with a name"),
        ({"messages": [ASK, CALLING | {"tool_calls": [{"name": "f", "arguments": "{"}]}]},
         "arguments are an object, or its JSON text"),
        ({"messages": [ASK, CALLING | {"tool_calls": [{"name": "f", "arguments": '"\\ud800"'}]}]},
         "arguments are an object"),
        ({"messages": [ASK, ANSWER], "tools": "[weather]"}, "tools are a list, or its JSON text"),
        ({"messages": [ASK, ANSWER], "tools": [{"a": 1}]}, "tools are functions with a name"),
        ({"messages": [ASK, ANSWER | {"function_call": {"name": "f"}}]}, "calls are tool_calls of"),
    ],
)  # fmt: skip
def test_what_would_change_the_training_is_read_or_refused(value: Any, said: str) -> None:
    assert said in _refused(value)
