"""What counts as empty, and what as the same."""

from dataclasses import replace

import pytest

from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.exact_duplicates import without_duplicates, without_empty
from tunesmith_trainer.data.cleaning.row_keys import question_key
from tunesmith_trainer.data.rows import Message, Problems, Row


def _row(question: str, answer: str, *, line: int = 1) -> Row:
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Row(source=f"a.jsonl:{line}", messages=messages)


@pytest.mark.parametrize("row", [_row("Who?", " \n"), Row(source="a.jsonl:1", text="\t")])
def test_empty_rows_are_left_out_or_refused(row: Row) -> None:
    problems = Problems()

    assert without_empty([row], policy="remove", problems=problems) == []
    assert problems.count == 0
    without_empty([row], policy="fail", problems=problems)
    with pytest.raises(BadInputError, match=r"a.jsonl:1: given an empty .*emptyRows is fail"):
        problems.refuse()


def test_rows_that_differ_in_white_space_alone_are_duplicates() -> None:
    rows = [
        _row("Who?", "Me.", line=1),
        _row("How?", "So.", line=2),
        _row("Who? ", "Me.\n", line=3),
    ]

    assert without_duplicates(rows) == rows[:2]


def test_rows_with_other_answers_are_no_duplicates() -> None:
    rows = [_row("Who?", "Me."), _row("Who?", "You.")]

    assert without_duplicates(rows) == rows


def test_preferences_are_duplicates_only_if_both_answers_are_the_same() -> None:
    pairs = [
        replace(_row("Who?", "Me.", line=line), rejected=_row("Who?", other).messages)
        for line, other in enumerate(("You.", " You. ", "Nobody."), start=1)
    ]

    assert without_duplicates(pairs) == [pairs[0], pairs[2]]


def test_a_preference_whose_rejected_answer_is_empty_is_left_out() -> None:
    pair = replace(_row("Who?", "Me."), rejected=_row("Who?", " ").messages)

    assert without_empty([pair], policy="remove", problems=Problems()) == []


def test_questions_are_the_same_in_any_case_and_spacing() -> None:
    assert question_key(_row("Who  is it?", "Me.")) == question_key(_row(" who is it?", "You."))
    assert question_key(_row("Who?", "Me.")) != question_key(_row("Why?", "Me."))
