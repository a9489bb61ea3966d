"""What may be promised, and how the refusal of anything else helps."""

from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.slo import BOUNDARIES


def deployment(slo: dict[str, Any]) -> ModelDeployment:
    return ModelDeployment.model_validate(
        {"metadata": {"name": "helpdesk"}, "spec": {"model": "helpdesk", "slo": slo}}
    )


@pytest.mark.parametrize(
    ("seconds", "near"),
    [(1.3, "1 or 1.5"), (0.0001, "0.001"), (500, "100"), (0.07, "0.06 or 0.075")],
)
def test_a_threshold_between_two_boundaries_is_refused_with_both(seconds: float, near: str) -> None:
    """A share between two buckets would be a guess."""
    with pytest.raises(
        ValidationError, match=f"no boundary of the histograms; give {near}$|{near} "
    ):
        deployment({"ttft": {"seconds": seconds}})


def test_a_promise_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="slo promises nothing"):
        deployment({})


def test_boundaries_grow() -> None:
    assert list(BOUNDARIES) == sorted(set(BOUNDARIES))
    assert (BOUNDARIES[0], BOUNDARIES[-1]) == (0.001, 100.0)
