"""What counts as empty, and what as the same."""

from dataclasses import replace

import pytest

from tunesmith_trainer.data.cleaning.exact_duplicates import first_of_copies, is_empty
from tunesmith_trainer.data.cleaning.row_keys import question_key
from tunesmith_trainer.data.rows import Message, Row


def _row(question: str, answer: str, *, line: int = 1) -> Row:
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Row(source=f"a.jsonl:{line}", messages=messages)


@pytest.mark.parametrize("row", [_row("Who?", " \n"), Row(source="a.jsonl:1", text="\t")])
def test_rows_without_a_visible_answer_are_empty(row: Row) -> None:
    assert is_empty(row)
    assert not is_empty(_row("Who?", "Me."))


def test_rows_that_differ_in_white_space_alone_are_duplicates() -> None:
    rows = [_row("Who?", "Me."), _row("How?", "So."), _row("Who? ", "Me.\n")]

    assert first_of_copies(rows) == {2: 0}


def test_rows_with_other_answers_are_no_duplicates() -> None:
    assert first_of_copies([_row("Who?", "Me."), _row("Who?", "You.")]) == {}


def test_preferences_are_duplicates_only_if_both_answers_are_the_same() -> None:
    pairs = [
        replace(_row("Who?", "Me."), rejected=_row("Who?", other).messages)
        for other in ("You.", " You. ", "Nobody.")
    ]

    assert first_of_copies(pairs) == {1: 0}


def test_a_preference_whose_rejected_answer_is_empty_is_empty() -> None:
    pair = replace(_row("Who?", "Me."), rejected=_row("Who?", " ").messages)

    assert is_empty(pair)


def test_questions_are_the_same_in_any_case_and_spacing() -> None:
    assert question_key(_row("Who  is it?", "Me.")) == question_key(_row(" who is it?", "You."))
    assert question_key(_row("Who?", "Me.")) != question_key(_row("Why?", "Me."))
