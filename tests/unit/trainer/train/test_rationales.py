"""Rationales beside answers: how they are read and asked for, and what the loss weighs."""

from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rationales import rationale_row, with_rationales
from tunesmith_trainer.data.rows import Message, Problems, RawRow, Row
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.rationales import AnswersAndRationales
from tunesmith_trainer.train.packing import one_per_line

CPU = torch.device("cpu")
ROW = Row(
    "a.jsonl:1",
    (
        Message("user", "Hello."),
        Message("assistant", "Hello. What is it?"),
        Message("user", "The screen is dark."),
        Message("assistant", "Check the cable."),
    ),
    rationale="A dark screen mostly has no power.",
)


def read(*values: Any, is_required: bool = True) -> tuple[list[Row], Problems]:
    problems = Problems()
    raw = [RawRow(f"a:{n}", {"prompt": "?", **value}) for n, value in enumerate(values)]
    rows = [Row(each.source, ROW.messages) for each in raw]
    given = with_rationales(rows, raw=raw, column="why", problems=problems, is_required=is_required)
    return list(given), problems


def test_a_rationale_is_the_only_answer_that_is_learnt_of_its_row() -> None:
    asked = rationale_row(ROW, "Say why.")

    assert asked is not None
    assert asked.messages[-1].content == "A dark screen mostly has no power."
    assert asked.messages[-2].content == "The screen is dark.\n\nSay why."
    assert [turn.is_trained for turn in asked.messages] == [False, False, False, True]
    assert rationale_row(Row("a:1", ROW.messages), "Say why.") is None


def test_rows_may_lack_a_rationale_and_what_is_no_text_is_told() -> None:
    rows, problems = read({"why": " Because. "}, {"why": None}, {}, {"why": [1]})

    assert [row.rationale for row in rows] == ["Because.", "", ""]
    with pytest.raises(BadInputError, match="a rationale is text"):
        problems.refuse()


def test_a_column_that_no_row_has_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"dataset\.rationale: given why"):
        read({}, {})
    assert len(read({}, is_required=False)[0]) == 1


def test_the_loss_weighs_the_means_of_answers_and_of_rationales() -> None:
    model, tokens, why = small_model(), random_rows(4), random_rows(2, seed=5)
    objective = AnswersAndRationales(
        tokens,
        numbers=[1, 3],
        rationales=why,
        label_weight=0.25,
        device=CPU,
        lay_out=one_per_line,
        regularization=Regularization(),
    )

    loss = objective.summed_loss(model, [0, 1, 2, 3]) / objective.num_units([0, 1, 2, 3])

    answers, rationales = (
        CrossEntropy(rows, device=CPU).summed_loss(model, list(range(len(rows)))) / rows.num_targets
        for rows in (tokens, why)
    )
    torch.testing.assert_close(loss, 0.25 * answers + 0.75 * rationales, rtol=1e-4, atol=1e-4)
