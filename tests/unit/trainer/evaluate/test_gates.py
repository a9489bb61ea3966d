"""Gates: each kind of bound at its edge, and what a person reads of it."""

from typing import Any

import pytest

from tunesmith_api.finetunejob.evaluation import Gate
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.gates import judge, refuse_unmeasured


def a_loss(value: float, base: float | None = 2.0) -> EvaluationResult:
    return EvaluationResult(
        suite="heldOut", split="tuned", metric="loss", value=value, base=base, n=9
    )


@pytest.mark.parametrize(
    ("bound", "holds"),
    [
        ({"min": 1.5}, True),
        ({"min": 1.51}, False),
        ({"max": 1.5}, True),
        ({"max": 1.49}, False),
        ({"min_delta": -0.5}, True),
        ({"min_delta": -0.49}, False),
        ({"max_delta": -0.5}, True),
        ({"max_delta": -0.51}, False),
    ],
)
def test_a_bound_that_is_met_exactly_holds(bound: dict[str, Any], *, holds: bool) -> None:
    (verdict,) = judge([Gate(**bound)], [a_loss(1.5)])

    assert verdict.holds is holds


def test_a_verdict_says_what_was_measured_and_the_bound() -> None:
    kept, broken = judge([Gate(max=2.0), Gate(max_delta=-1.0)], [a_loss(1.5)])

    assert kept.statement == "heldOut loss is 1.5 and keeps the bound of at most 2"
    assert broken.statement == (
        "heldOut loss went from 2 (base) to 1.5, a change of -0.5, "
        "and breaks the bound of at most -1"
    )


def test_a_change_from_nothing_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="without a base value"):
        judge([Gate(max_delta=0.0)], [a_loss(1.5, base=None)])


def test_a_gate_on_what_is_not_measured_is_refused_with_what_is() -> None:
    with pytest.raises(BadInputError, match="Measured are general loss, heldOut loss") as caught:
        refuse_unmeasured(
            [Gate(metric="chrf", min=0.1)], measured=[("heldOut", "loss"), ("general", "loss")]
        )

    assert caught.value.reason is Reason.INVALID_SPEC
