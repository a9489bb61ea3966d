"""What is read of replies, however they are dressed."""

import pytest

from tunesmith_trainer.synthesize.instructions import read_question, read_score


@pytest.mark.parametrize(
    "reply",
    [
        "Where is it?",
        "<message>\nWhere is it?\n</message>",
        "Sure! Here is one:\n<message>Where is it?</message> I hope it helps.",
        "<message>Where is it?",
        'Here is a new message: "Where is it?"',
        "New message: Where is it?",
        "**Question:** Where is it?",
        "1. Where is it?",
        "“Where is it?”",
    ],
)
def test_a_question_is_read_without_what_stands_around_it(reply: str) -> None:
    assert read_question(reply) == "Where is it?"


def test_quotes_within_a_question_stay() -> None:
    assert read_question('"a" and "b"') == '"a" and "b"'


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 4", 4),
        ("**Score:** 5", 5),
        ("3", 3),
        ("4/5", 4),
        ("2 out of 5.", 2),
        ("The answer is right.\nScore: 4", 4),
        ("Score: 45", None),
        ("Score: 4.5", None),
        ("Score: 1. Score: 5", None),
        ("Fine, 3 of my friends agree.", None),
        ("", None),
    ],
)
def test_a_score_is_read_only_where_it_is_clear(reply: str, score: int | None) -> None:
    assert read_score(reply) == score
