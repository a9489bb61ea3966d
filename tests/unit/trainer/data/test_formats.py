"""What the fields of each format mean, and how rows that break it are refused."""

from dataclasses import replace
from typing import Any

import pytest

from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.formats import detect_format, read_format
from tunesmith_trainer.data.rows import SHOWN, Problems, RawRow, Row

TURN = {"role": "user", "content": "Who?"}
ANSWER = {"role": "assistant", "content": "Me."}

UNDERSTOOD: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("messages", {"messages": [TURN, ANSWER]}, [("user", "Who?"), ("assistant", "Me.")]),
    ("messages", {"messages": [TURN, ANSWER, TURN]}, [("user", "Who?"), ("assistant", "Me.")]),
    (
        "messages",
        {"messages": [{"role": "system", "content": "Be kind."}, ANSWER], "id": 7},
        [("system", "Be kind."), ("assistant", "Me.")],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]},
        [("user", "Who?"), ("assistant", "Me.")],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "gpt", "value": "Hi."}], "system": "Be kind."},
        [("system", "Be kind."), ("assistant", "Hi.")],
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        [("user", "Add.\n\n1, 2"), ("assistant", "3")],
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": None, "output": "3"},
        [("user", "Add."), ("assistant", "3")],
    ),
    (
        "promptCompletion",
        {"prompt": "Who?", "completion": "Me."},
        [("user", "Who?"), ("assistant", "Me.")],
    ),
    ("dialogues", ["Who?", "Me.", "Why?"], [("user", "Who?"), ("assistant", "Me.")]),
]

REFUSED = [
    (
        "messages",
        {"messages": [TURN | {"content": None}, ANSWER]},
        "given content: null in a turn of user; a turn that is no answer has text; write it",
    ),
    ("sharegpt", {"conversations": [{"from": "system", "value": None}]}, "null in a turn of syst"),
    ("alpaca", {"instruction": None, "output": "x"}, "given instruction: null"),
    ("promptCompletion", {"prompt": None, "completion": "x"}, "given prompt: null"),
    ("dialogues", ["Who?", "Me.", None, "Us."], "given turn 3: null"),
    ("messages", {"messages": [TURN]}, "given turns of user; a conversation has an assistant turn"),
    ("messages", {"messages": []}, "given turns of nobody"),
    ("messages", {"messages": "Who?"}, "messages is a list of turns"),
    ("messages", {"messages": [{"role": "bot", "content": "x"}]}, "role is one of system, user"),
    ("messages", {"messages": [{"role": ["user"], "content": "x"}]}, "role is one of"),
    ("messages", {"messages": [{"content": "x"}]}, "a turn has role and content"),
    (
        "messages",
        {"messages": [TURN, ANSWER | {"content": 3}]},
        "given content: a number; content is te",
    ),
    ("sharegpt", {"conversations": [{"from": "alien", "value": "x"}]}, "from is one of system, hu"),
    ("alpaca", {"instruction": "x"}, "rows of format alpaca have output"),
    (
        "promptCompletion",
        {"prompt": "x", "completion": 5},
        "given completion: a number; completion is text",
    ),
    ("promptCompletion", {"prompt": "\ud800", "completion": "y"}, "halves of surrogate pairs"),
    ("promptCompletion", ["x", "y"], "given a list of turns; all rows of a data set have one form"),
    ("dialogues", {"prompt": "x"}, "given an object with fields; all rows"),
    ("dialogues", ["Who?"], "a conversation has an assistant turn"),
    ("text", {"text": ["x"]}, "text is text"),
]


def _row(value: Any) -> RawRow:
    return RawRow(source="a.jsonl:1", value=value)


def _turns(row: Row) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in row.messages]


def test_turns_of_one_speaker_in_a_row_are_one_and_counted() -> None:
    problems = Problems()
    said = [("user", "Hi."), ("user", "Who?"), ("assistant", ""), ("assistant", "Me.")]
    value = {"messages": [{"role": role, "content": content} for role, content in said]}
    answers = [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    tool = {"messages": [TURN, *answers, ANSWER]}

    (row,) = read_format([_row(value)], name="messages", columns={}, problems=problems)
    (other,) = read_format([_row(tool)], name="messages", columns={}, problems=problems)

    assert _turns(row) == [("user", "Hi.\n\nWho?"), ("assistant", "Me.")]
    assert (row.num_joined, other.num_joined, problems.count) == (2, 0, 0)


def test_turns_of_a_preference_are_joined_on_each_side_of_the_prompt() -> None:
    problems = Problems()
    value = {
        "prompt": [TURN, TURN],
        "chosen": [ANSWER],
        "rejected": [ANSWER, ANSWER | {"content": "You."}],
    }

    (row,) = read_format([_row(value)], name="preference", columns={}, problems=problems)

    assert (row.num_prompt, len(row.messages), len(row.rejected)) == (1, 2, 2)
    assert row.num_joined == 2


@pytest.mark.parametrize(("name", "value", "turns"), UNDERSTOOD)
def test_a_row_is_detected_and_understood(
    name: str, value: Any, turns: list[tuple[str, str]]
) -> None:
    problems = Problems()

    rows = list(read_format([_row(value)], name=name, columns={}, problems=problems))

    assert detect_format(_row(value), columns={}) == name
    assert problems.shown == []
    assert _turns(rows[0]) == turns


@pytest.mark.parametrize(("name", "value", "said"), REFUSED)
def test_a_row_that_breaks_its_format_is_refused(name: str, value: Any, said: str) -> None:
    problems = Problems()

    rows = list(read_format([_row(value)], name=name, columns={}, problems=problems))

    assert rows == []
    assert problems.shown[0].startswith("a.jsonl:1: given ")
    assert said in problems.shown[0]


ASKED = [("user", "Who?")]
KIND = {"role": "system", "content": "Be kind."}
OTHER = ANSWER | {"content": "You."}
BOTH = {"chosen": "Me.", "rejected": "You."}

# By the conventions of TRL; the turns of the prompt, which both sides begin with.
PREFERENCES: list[tuple[Any, list[tuple[str, str]]]] = [
    ({"prompt": "Who?", **BOTH}, ASKED),
    ({"prompt": "Who?", "system": "Be kind.", **BOTH}, [("system", "Be kind."), *ASKED]),
    ({"prompt": [TURN], "chosen": [ANSWER], "rejected": [OTHER]}, ASKED),
    ({"chosen": [TURN, ANSWER], "rejected": [TURN, OTHER]}, ASKED),
    ({"prompt": "Who?", "chosen": [KIND, TURN, ANSWER], "rejected": [KIND, TURN, OTHER]},
     [("system", "Be kind."), *ASKED]),
    ({"chosen": [TURN, ANSWER, TURN, ANSWER, TURN], "rejected": [TURN, ANSWER, TURN, OTHER]},
     [*ASKED, ("assistant", "Me."), *ASKED]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "prompt"), PREFERENCES)
def test_a_preference_is_two_answers_to_one_prompt(
    value: Any, prompt: list[tuple[str, str]]
) -> None:
    problems = Problems()

    (row,) = read_format([_row(value)], name="preference", columns={}, problems=problems)

    assert detect_format(_row(value), columns={}) == "preference"
    assert problems.shown == []
    assert _turns(row) == [*prompt, ("assistant", "Me.")]
    assert [(turn.role, turn.content) for turn in row.rejected] == [*prompt, ("assistant", "You.")]
    assert row.num_prompt == len(prompt)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"prompt": "Who?", "chosen": "Me.", "rejected": " Me."}, "given the same answer as chos"),
        ({"chosen": [TURN, ANSWER], "rejected": [TURN, ANSWER]}, "chosen: after the turns that b"),
        ({"chosen": [TURN, ANSWER], "rejected": [ANSWER]}, "chosen: after the turns that both sha"),
        ({"chosen": "Me.", "rejected": "You."}, "given answers that are text, and no prompt"),
        ({"prompt": "Who?", "chosen": "Me."}, "rows of format preference have rejected"),
        ({"prompt": [TURN], "chosen": [TURN], "rejected": [ANSWER]}, "one of user; both answers"),
    ],
)
def test_a_preference_that_is_none_is_refused_with_its_line(value: Any, said: str) -> None:
    problems = Problems()

    rows = list(read_format([_row(value)], name="preference", columns={}, problems=problems))

    assert rows == []
    assert problems.shown[0].startswith("a.jsonl:1: given ")
    assert said in problems.shown[0]


def test_a_row_with_the_fields_of_two_formats_is_not_guessed_at() -> None:
    value = {"prompt": "Who?", "completion": "Me.", **BOTH}

    with pytest.raises(BadInputError, match="several formats"):
        detect_format(_row(value), columns={})


def test_columns_give_the_fields_of_a_preference_their_names() -> None:
    value = {"question": "Who?", "better": "Me.", "worse": "You."}
    columns = {"prompt": "question", "chosen": "better", "rejected": "worse"}

    assert detect_format(_row(value), columns=columns) == "preference"
    (row,) = list(
        read_format([_row(value)], name="preference", columns=columns, problems=Problems())
    )
    assert _turns(row) == [*ASKED, ("assistant", "Me.")]


def test_text_is_taken_as_it_is() -> None:
    rows = list(read_format([_row({"text": " x "})], name="text", columns={}, problems=Problems()))

    assert rows == [Row(source="a.jsonl:1", text=" x ")]


def test_columns_give_fields_their_names() -> None:
    value = {"question": "Who?", "answer": "Me.", "prompt": "not this"}
    columns = {"prompt": "question", "completion": "answer"}

    rows = list(
        read_format([_row(value)], name="promptCompletion", columns=columns, problems=Problems())
    )

    assert detect_format(_row(value), columns=columns) == "promptCompletion"
    assert _turns(rows[0]) == [("user", "Who?"), ("assistant", "Me.")]


def test_a_column_that_the_format_has_not_is_refused() -> None:
    with pytest.raises(
        BadInputError, match=r"dataset.columns: given answer; .* prompt, completion"
    ):
        list(read_format([], name="promptCompletion", columns={"answer": "x"}, problems=Problems()))


def test_rows_of_no_format_are_refused_with_their_fields() -> None:
    with pytest.raises(BadInputError, match="given the fields a, b; no format has these fields"):
        detect_format(_row({"a": 1, "b": 2}), columns={})


def test_rows_of_two_formats_are_refused_until_one_is_named() -> None:
    with pytest.raises(BadInputError, match=r"several formats \(messages, text\)"):
        detect_format(_row({"messages": [], "text": ""}), columns={})


def test_the_first_problems_are_listed_and_the_rest_counted() -> None:
    problems = Problems()
    rows = [replace(_row({}), source=f"a.jsonl:{line}") for line in range(1, SHOWN + 3)]
    list(read_format(rows, name="text", columns={}, problems=problems))

    with pytest.raises(BadInputError) as caught:
        problems.refuse()

    # Of rows that break the same rule it is said once.
    said, rest = caught.value.message.splitlines()
    assert said.startswith("a.jsonl:1, 2, 3, 4, 5: given ")
    assert rest == "and 2 more problems"


def test_one_rule_is_told_once_whatever_the_rows_hold() -> None:
    problems = Problems()
    for source, given in (("a:1", "tools"), ("a:2", "calls"), ("a:7", "tools"), ("b:1", "tools")):
        problems.add(source, given=given, rule="left out", remedy="show it")
    problems.add("b:2", given="tools", rule="no name", remedy="name it")

    assert problems.shown == [
        "a:1, 7, b:1: given tools; a:2: given calls; left out; show it",
        "b:2: given tools; no name; name it",
    ]


def test_prompt_and_completion_may_be_lists_of_turns() -> None:
    asked = [
        {"role": "user", "content": "Cold?"},
        {"role": "assistant", "content": "Where?"},
        {"role": "user", "content": "Oslo."},
    ]
    answer = [{"role": "assistant", "content": "Yes."}]
    row = _row({"prompt": asked, "completion": answer, "tools": None})
    problems = Problems()

    (read,) = read_format([row], name="promptCompletion", columns={}, problems=problems)

    assert problems.shown == []
    # What the assistant said in the prompt is given, as TRL has it.
    assert [turn.is_trained for turn in read.messages] == [False, False, False, True]
    assert [turn.content for turn in read.messages] == ["Cold?", "Where?", "Oslo.", "Yes."]


def test_a_completion_without_an_answer_is_refused() -> None:
    row = _row({"prompt": "Cold?", "completion": [{"role": "user", "content": "Well?"}]})
    problems = Problems()

    assert list(read_format([row], name="promptCompletion", columns={}, problems=problems)) == []
    assert "a conversation has an assistant turn" in problems.shown[0]


SECRET = "my password is hush"
TELLING: list[tuple[str, Any]] = [
    ("messages", {"messages": SECRET}),
    ("messages", {"messages": [SECRET]}),
    ("messages", {"messages": [{SECRET: SECRET, "and so on, at length": 1}]}),
    ("messages", {"messages": [{"role": SECRET, "content": SECRET}]}),
    ("messages", {"messages": [{"role": "user", "content": {SECRET: SECRET}}]}),
    ("messages", {"messages": [TURN | {"content": [{"type": SECRET, "text": SECRET}]}, ANSWER]}),
    ("messages", {"messages": [TURN, ANSWER | {"train": SECRET}]}),
    ("messages", {"messages": [TURN, ANSWER | {"function_call": SECRET}]}),
    ("messages", {"messages": [TURN, ANSWER | {"tool_calls": SECRET}]}),
    ("messages", {"messages": [ANSWER | {"tool_calls": [{"name": "f", "arguments": SECRET}]}]}),
    ("messages", {"messages": [TURN, ANSWER], "tools": [{"description": SECRET}]}),
    ("alpaca", {"instruction": [{"type": SECRET}], "output": "x"}),
    ("promptCompletion", {"prompt": "x", "completion": {SECRET: SECRET}}),
    ("promptCompletion", {"prompt": "x", "completion": SECRET + "\ud800"}),
    ("promptCompletion", {SECRET: SECRET, "and what was said to that": SECRET}),
    ("dialogues", [["x", SECRET], {SECRET: 1}]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), TELLING)
def test_what_is_said_of_a_refused_row_has_none_of_its_words(name: str, value: Any) -> None:
    problems = Problems(max_bad_rows=1)

    list(read_format([RawRow("a.jsonl:1", value)], name=name, columns={}, problems=problems))

    (said,) = [*problems.shown]
    assert "hush" not in said
    assert said.startswith("a.jsonl:1: given ")
    assert "hush" not in problems.bad_rows[0].rule


def test_a_first_row_without_header_is_not_told_as_names() -> None:
    first = RawRow("a.csv:2", {"I forgot my password, which was hush": "x", "Sorry": "y"})

    with pytest.raises(
        BadInputError, match="text of 36 characters, text of 5 characters"
    ) as caught:
        detect_format(first, columns={})

    assert "Sorry" not in caught.value.message


def read_cell(prompt: str, *, is_typed: bool = False) -> tuple[list[Row], Problems]:
    """A row of a CSV file with this prompt."""
    raw = RawRow("a.csv:2", {"prompt": prompt, "completion": "Me."}, is_typed=is_typed)
    problems = Problems()
    return list(
        read_format([raw], name="promptCompletion", columns={}, problems=problems)
    ), problems


@pytest.mark.parametrize(
    "prompt",
    [
        '[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]',
        ' [ {"content": "Be kind.", "role": "system"}, {"role": "user", "content": "Who?"}]\n',
    ],
)
def test_turns_in_a_cell_of_a_csv_file_are_turns(prompt: str) -> None:
    ((row,), problems) = read_cell(prompt)

    assert problems.shown == []
    assert [turn.role for turn in row.messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize("prompt", ["[1, 2]", "[{ok}] what is that?", '{"role": "user"}', "[]"])
def test_other_brackets_in_a_cell_are_text(prompt: str) -> None:
    ((row,), _) = read_cell(prompt)

    assert [turn.content for turn in row.messages] == [prompt, "Me."]


@pytest.mark.parametrize(
    "prompt", ["[{'role': 'user', 'content': 'hush'}]", '[{"role": "user", "content": "hush']
)
def test_a_cell_that_is_nearly_turns_is_refused(prompt: str) -> None:
    rows, problems = read_cell(prompt)

    assert rows == []
    assert problems.shown[0] == (
        f"a.csv:2: given prompt: text of {len(prompt)} characters; a cell that begins as a list of "
        "turns is JSON, here in prompt; write the list with json.dumps, or the text in another way"
    )


def test_text_of_a_file_that_has_types_stays_text() -> None:
    prompt = '[{"role": "user", "content": "What does this say?"}]'

    ((row,), _) = read_cell(prompt, is_typed=True)

    assert row.messages[0].content == prompt
