"""Who did not ask what a model may forget is told when it has."""

import numpy as np
import pytest

from tunesmith_api.finetunejob.evaluation import Bootstrap, Gate
from tunesmith_trainer.evaluate.forgetting import NOTABLE_RISE, forgetting_warnings
from tunesmith_trainer.evaluate.log_likelihood import RowLosses

WEIGHTS = np.full(40, 50.0)
BASE = RowLosses(np.linspace(2.0, 4.0, 40) * WEIGHTS, WEIGHTS)


def told(rises: np.ndarray, *gates: Gate) -> list[str]:
    tuned = RowLosses(BASE.sums + rises * WEIGHTS, WEIGHTS)
    return forgetting_warnings(tuned, base=BASE, gates=gates, settings=Bootstrap())


def test_a_rise_is_told_with_its_interval_and_what_helps() -> None:
    (warning,) = told(np.linspace(0.3, 0.5, 40))

    assert "risen by 0.400 nats (0.3" in warning
    assert "dataset.replay" in warning


@pytest.mark.parametrize(
    "rises",
    [
        np.full(40, NOTABLE_RISE / 2),
        np.full(40, -1.0),
        # Large in the mean by a few rows, which could be chance.
        np.asarray([6.0, *[0.0] * 39]),
    ],
    ids=["small", "a fall", "chance"],
)
def test_what_is_small_or_uncertain_is_not_told(rises: np.ndarray) -> None:
    assert told(rises) == []


def test_nor_is_what_a_gate_is_about() -> None:
    gate = Gate(suite="general", metric="loss", max_delta=5.0)

    assert told(np.full(40, 1.0), gate) == []
