"""A verdict in words: with its numbers, or with what would settle it."""

from dataclasses import replace

import pytest

from deployment_world import a_verdict
from tunesmith_api.modeldeployment.limits import Limits, Metric
from tunesmith_engine.deployment.verdicts import in_words
from tunesmith_engine.rollout.judge import Cause, Verdict

LIMITS = Limits()


def about(verdict: Verdict, metric: Metric, *, effect: float | None) -> Verdict:
    """The verdict with its evidence on that metric."""
    (row,) = verdict.evidence
    row = replace(row, metric=metric, effect=effect, lower=0.0)
    return replace(verdict, metric=metric, evidence=(row,))


@pytest.mark.parametrize(
    ("metric", "effect", "told"),
    [
        (Metric.ERRORS, 0.03, "errors +3 points against stable"),
        (Metric.ITL_P90, 0.43, "itlP90 +43 % against stable"),
        (Metric.ERRORS, None, "errors unknown against stable"),
    ],
)
def test_a_rollback_says_how_much_worse(metric: Metric, effect: float | None, told: str) -> None:
    assert told in in_words(about(a_verdict("rollback"), metric, effect=effect), LIMITS)


def test_a_loss_of_quality_is_told_in_nats() -> None:
    limits = Limits.model_validate({"metrics": {"qualityLoss": {}}})
    verdict = about(a_verdict("rollback"), Metric.QUALITY_LOSS, effect=0.2)

    assert "qualityLoss +0.2 nats" in in_words(verdict, limits)
    assert "(+0.05 nats matters)" in in_words(verdict, limits)


def test_a_promotion_names_the_metric_that_was_last() -> None:
    assert "the last to show it: ttftP90 +1 % of +20 %" in in_words(a_verdict("promote"), LIMITS)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"more_requests": 120}, "about 120 more requests would settle ttftP90"),
        ({}, "ttftP90 is not settled, and shows no trend"),
        ({"metric": None}, "not settled yet"),
        ({"cause": Cause.TOO_FEW_SAMPLES}, "300 requests of each version"),
        ({"evidence": ()}, "at least 50 are needed (rollout.analysis.minimumSamples)"),
    ],
)
def test_without_a_decision_it_says_what_is_missing(fields: dict[str, object], told: str) -> None:
    verdict = replace(a_verdict("inconclusive"), **fields)  # type: ignore[arg-type]

    assert told in in_words(verdict, LIMITS)


def test_without_metrics_there_is_no_verdict() -> None:
    assert "no metrics" in in_words(None, LIMITS)
