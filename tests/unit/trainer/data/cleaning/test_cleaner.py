"""All rules together: what goes, what is mended, what is only told, and what stays as it was."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.cleaning import Cleaning
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.cleaner import HeldOut, clean
from tunesmith_trainer.data.cleaning.findings import Finding, write_audit
from tunesmith_trainer.data.rows import Message, Problems, Row, ToolCall

NOTHING = HeldOut([], [])


def _rows(*turns: tuple[str, ...]) -> list[Row]:
    roles = ("user", "assistant")
    return [
        Row(
            source=f"a.jsonl:{line}",
            messages=tuple(
                Message(role=roles[place % 2], content=said) for place, said in enumerate(spoken)
            ),
        )
        for line, spoken in enumerate(turns, start=1)
    ]


def _cleaned(
    rows: list[Row], *, held_out: HeldOut | None = NOTHING, **cleaning: Any
) -> tuple[list[Row], list[Finding]]:
    problems = Problems()
    found = clean(
        rows,
        cleaning=Cleaning.model_validate(cleaning),
        split="train",
        problems=problems,
        held_out=held_out,
    )
    problems.refuse()
    return list(found[0]), found[1]


@pytest.mark.parametrize(
    ("rule", "question", "answer"),
    [
        ("boilerplate", "What is new?", "Much. Click here to read more."),
        ("brokenMarkup", "What is new?", "<div>Much"),
        ("unbalancedFences", "Write some code.", "```python\nprint(1)"),
        ("truncatedAnswers", "Where is it?", "You go down the road and then turn left at the"),
        ("echoAnswers", "Who is it then?", "Who is it, then?"),
        ("refusals", "Write a poem.", "I'm sorry, but I can't help with that."),
        ("binaryText", "What is new?", "\x00\x01\x02\x03\x04\x05\x06\x07\x08"),
        ("binaryText", "What is new?", "A" * 10_001),
    ],
)
def test_noise_is_told_by_default_and_removed_where_asked(
    rule: str, question: str, answer: str
) -> None:
    rows = _rows(("How do I turn it off?", "Press the red button twice."), (question, answer))

    told, findings = _cleaned(rows)
    left, removed = _cleaned(rows, noise={rule: "remove"})
    _, unseen = _cleaned(rows, noise={rule: "keep"})

    expected = (f"noise.{rule}", "a.jsonl:2")
    assert told == rows
    assert (*expected, "kept") in {(each.rule, each.row, each.action) for each in findings}
    assert [row.source for row in left] == ["a.jsonl:1"]
    assert (*expected, "removed") in {(each.rule, each.row, each.action) for each in removed}
    assert f"noise.{rule}" not in {each.rule for each in unseen}


@pytest.mark.parametrize(
    "answer",
    [
        "Use <b>bold</b> and `<div>` in code, Tom & me.",
        "```html\n<div>\n```",
        "I'm sorry I can't help you move tomorrow :(",
        "Ja, natürlich – “déjà vu” 🙂",
    ],
)
def test_ordinary_answers_break_no_rule(answer: str) -> None:
    rows = _rows(("What do you say?", answer))

    assert _cleaned(rows) == (rows, [])


def test_text_that_was_encoded_twice_is_mended_before_copies_are_looked_for() -> None:
    rows = _rows(("Who was it?", "It wasn’t me."), ("Who was it?", "It wasnâ€™t me."))

    left, findings = _cleaned(rows)

    assert left == rows[:1]
    assert [(each.rule, each.action, each.of) for each in findings] == [
        ("repair.mojibake", "repaired", None),
        ("exactDuplicates", "removed", "a.jsonl:1"),
    ]


@pytest.mark.parametrize("text", ["CAFÉ»", "voilà”…", "ÃO", "naïve", "Привет", "«É»"])
def test_what_only_looks_like_mojibake_stays(text: str) -> None:
    rows = _rows(("What does it say?", text))

    assert _cleaned(rows)[0] == rows


def test_control_characters_go_and_marks_join_their_letters() -> None:
    rows = _rows(("What does it say?", "Cafe\u0301\x07 au lait"))

    left, _ = _cleaned(rows, repair={"normalization": "repair"})

    assert left[0].messages[1].content == "Café au lait"


def test_white_space_is_made_uniform_but_not_in_code() -> None:
    code = "```\r\nif x:  \r\n    y\r\n```"
    rows = _rows((" Hm? \t", "So.  \r\n\r\n\r\n\r\nThen."), ("Code?", code))

    left, _ = _cleaned(rows, uniformity={"whiteSpace": "repair"})

    assert [turn.content for turn in left[0].messages] == ["Hm?", "So.\n\nThen."]
    assert left[1].messages[1].content == "```\nif x:  \n    y\n```"


def test_of_conflicting_answers_the_leading_one_stays() -> None:
    rows = _rows(
        ("What is six times seven?", "42"),
        ("what is six times seven", "forty-one"),
        ("What is six times seven?", "42."),
        ("Hello", "Hi"),
        ("Hello", "Hey"),
    )

    left, findings = _cleaned(rows, conflictingAnswers="remove", nearDuplicates={"policy": "keep"})

    assert [row.source for row in left] == [f"a.jsonl:{line}" for line in (1, 3, 4, 5)]
    assert [(each.row, each.of) for each in findings] == [("a.jsonl:2", "a.jsonl:1")]


def test_where_no_answer_leads_all_go() -> None:
    rows = _rows(("What is six times seven?", "42"), ("What is six times seven?", "41"))

    assert _cleaned(rows, conflictingAnswers="remove")[0] == []


def test_near_duplicates_and_contaminated_rows_go_where_asked() -> None:
    held = "my printer on the second floor prints every page twice since monday morning"
    rows = _rows(
        (f"Hello there, {held}", "Turn it off and on again."),
        ("The door of the big garage does not open any more today", "Call the janitor please."),
        ("The door of the big garage does not open any more now", "Call the janitor please."),
    )
    held_out = HeldOut([held], ["held.jsonl:1"])
    remove = {"policy": "remove"}

    left, findings = _cleaned(rows, held_out=held_out, nearDuplicates=remove, contamination=remove)

    assert left == [rows[1]]
    assert [(each.rule, each.row, each.of) for each in findings] == [
        ("nearDuplicates", "a.jsonl:3", "a.jsonl:2"),
        ("contamination", "a.jsonl:1", "held.jsonl:1"),
    ]


def test_held_out_rows_are_mended_and_never_judged() -> None:
    rows = _rows(("Write a poem.", "I’m sorry, but I canâ€™t help with that."))

    left, findings = _cleaned(rows, held_out=None, noise={"refusals": "remove"})

    assert left[0].messages[1].content == "I’m sorry, but I can’t help with that."
    assert [each.rule for each in findings] == ["repair.mojibake"]


def test_answers_in_other_languages_are_told_apart() -> None:
    english = ("Why?", "Because it is not there and we have to go for it in the end.")
    german = ("Warum?", "Weil es nicht da ist und wir auch nicht wissen, was das für ein Haus ist.")
    greek = ("Γιατί;", "Γιατί δεν είναι εκεί και πρέπει να πάμε")
    short = ("Why?", "OK")
    rows = _rows(english, german, greek, short)

    left, _ = _cleaned(rows, noise={"otherLanguages": "remove", "languages": ["en"]})

    assert left == [rows[0], rows[3]]


def test_lengths_far_from_all_others_are_outliers() -> None:
    turns = [(f"What is number {n}?", f"It is {'very ' * (n % 7)}{n * 7919}.") for n in range(60)]
    rows = _rows(*turns, ("What is it?", "so on and on. " * 4000))

    left, _ = _cleaned(rows, noise={"lengthOutliers": "remove"}, nearDuplicates={"policy": "keep"})

    assert left == rows[:-1]


def test_system_prompts_become_the_usual_one_and_odd_beginnings_are_told() -> None:
    said = ("Be kind.", "Be kind.", " be KIND", "Be brief.")
    rows = [
        Row(
            source=f"a.jsonl:{line}",
            messages=(
                Message("system", prompt),
                *_rows((f"Why {line}?", f"So {line}."))[0].messages,
            ),
        )
        for line, prompt in enumerate(said, start=1)
    ]
    odd = Row(source="a.jsonl:5", messages=(Message("assistant", "Hello, how can I help?"),))

    left, findings = _cleaned([*rows, odd], uniformity={"systemPrompts": "repair"})

    assert [row.messages[0].content for row in left[:4]] == ["Be kind."] * 3 + ["Be brief."]
    assert ("uniformity.roles", "a.jsonl:5") in {(each.rule, each.row) for each in findings}


@pytest.mark.parametrize(
    ("policy", "answer"), [("mask", "Ask [EMAIL] or [PHONE]."), ("warn", None), ("keep", None)]
)
def test_personal_data_is_masked_where_asked(policy: str, answer: str | None) -> None:
    rows = _rows(("Whom do I ask?", "Ask ann@corp.de or +49 30 901820111."))

    left, findings = _cleaned(rows, personalData={"policy": policy})

    assert left[0].messages[1].content == (answer or rows[0].messages[1].content)
    kinds = [each.kinds for each in findings]
    assert kinds == ([] if policy == "keep" else [("email", "phone")])


def test_secrets_in_calls_of_tools_are_masked_as_well() -> None:
    call = ToolCall("login", {"key": ["AKIAIOSFODNN7EXAMPLE"]})
    row = Row(
        source="a.jsonl:1",
        messages=(Message("user", "Log in."), Message("assistant", "", tool_calls=(call,))),
    )

    left, _ = _cleaned([row], secrets="mask")

    assert left[0].messages[1].tool_calls[0].arguments == {"key": ["[SECRET]"]}


def test_what_is_refused_names_the_row_and_not_the_value() -> None:
    with pytest.raises(BadInputError) as caught:
        _cleaned(_rows(("Whom?", "Ask ann@corp.de.")), personalData={"policy": "fail"})

    assert "a.jsonl:1: given email; dataset.cleaning.personalData.policy is fail" in str(
        caught.value.message
    )
    assert "ann" not in caught.value.message


def test_the_audit_has_rule_and_row_and_no_word_of_it(tmp_path: Path) -> None:
    _, findings = _cleaned(_rows(("Whom?", "Ask ann@corp.de."), ("Hm?", " ")))

    write_audit(findings, tmp_path / "audit.jsonl")

    lines = (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"rule": "emptyRows", "row": "a.jsonl:2", "split": "train", "action": "removed"},
        {
            "rule": "personalData",
            "row": "a.jsonl:1",
            "split": "train",
            "action": "kept",
            "kinds": ["email"],
        },
    ]
