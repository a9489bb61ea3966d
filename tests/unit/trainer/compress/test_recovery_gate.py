"""Recovery: the tuned loss over the compressed one, and never more than all of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_trainer.compress.recovery_gate import SchemeTrial, recovery_of, shortfall
from tunesmith_trainer.evaluate.log_likelihood import RowLosses


def losses(mean: float) -> RowLosses:
    return RowLosses(sums=np.array([mean, mean]), weights=np.ones(2))


def a_try(**recovery: float) -> SchemeTrial:
    return SchemeTrial(
        "W8A8", recovery=recovery, losses={}, min_recovery=0.99, seconds=1.0, num_bytes=8
    )


def test_recovery_is_the_ratio_of_the_losses_suite_by_suite() -> None:
    tuned = {"heldOut": losses(2.0), "general": losses(3.0)}
    compressed = {"heldOut": losses(2.5), "general": losses(3.0)}

    assert recovery_of(tuned, compressed) == {"heldOut": pytest.approx(0.8), "general": 1.0}


@given(st.floats(0.01, 50.0), st.floats(0.01, 50.0))
def test_recovery_lies_between_none_and_all(before: float, after: float) -> None:
    found = recovery_of({"heldOut": losses(before)}, {"heldOut": losses(after)})

    assert 0.0 < found["heldOut"] <= 1.0


def test_the_worst_suite_decides() -> None:
    assert a_try(heldOut=1.0, general=0.991).is_accepted
    assert not a_try(heldOut=1.0, general=0.989).is_accepted


def test_the_shortfall_names_scheme_suite_value_and_bound() -> None:
    assert shortfall(a_try(heldOut=0.97, general=0.98)) == (
        "W8A8 keeps 0.9700 of the tuned model's heldOut loss, less than the bound of 0.99 "
        "(spec.compression.gate.minRecovery)"
    )
