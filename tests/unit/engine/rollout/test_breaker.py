"""The breaker: bursts of failures end a rollout at once, and hardly ever without a cause."""

import numpy as np
import pytest

from rollouts import SECONDS, a_rollout, limits_of
from tunesmith_api.modeldeployment.limits import Limits, Metric
from tunesmith_engine.rollout.breaker import FEWEST_FAILURES, trip
from tunesmith_engine.rollout.columns import Columns
from tunesmith_engine.rollout.judge import Cause, Decision, judge, num_looks
from tunesmith_engine.rollout.samples import Arm, Sample

LIMITS = limits_of(Metric.ERRORS, Metric.INCOMPLETE)


def test_a_candidate_that_fails_from_the_start_does_not_wait_for_the_warm_up() -> None:
    verdict = judge(a_rollout(errors=(0.0, 1.0)), LIMITS, now_seconds=SECONDS)

    assert (verdict.decision, verdict.cause) == (Decision.ROLLBACK, Cause.FAILING)
    assert verdict.is_final
    assert verdict.at_seconds == 10.0
    assert verdict.trip is not None
    assert (verdict.trip.stable, verdict.trip.candidate) == (0.0, 1.0)


def test_a_few_requests_are_enough() -> None:
    """At a twentieth of a little traffic, fifty samples take an hour."""
    samples = a_rollout(num=1200, share=0.05, errors=(0.0, 1.0))

    verdict = judge(samples, LIMITS, now_seconds=SECONDS)

    assert verdict.cause is Cause.FAILING
    assert verdict.trip is not None
    assert FEWEST_FAILURES <= verdict.trip.num_candidate <= 2 * FEWEST_FAILURES


def test_answers_that_break_off_trip_it_too() -> None:
    samples = [
        sample.model_copy(update={"incomplete": "abort"}) if sample.arm is Arm.CANDIDATE else sample
        for sample in a_rollout(errors=(0.0, 0.0))
    ]

    assert judge(samples, LIMITS, now_seconds=SECONDS).cause is Cause.FAILING
    assert judge(samples, limits_of(Metric.ERRORS), now_seconds=SECONDS).cause is Cause.NO_WORSE


def test_where_both_fail_alike_the_candidate_is_not_to_blame() -> None:
    verdict = judge(a_rollout(errors=(0.5, 0.5)), LIMITS, now_seconds=SECONDS)

    assert verdict.trip is None


def test_one_client_whose_requests_all_fail_trips_nothing() -> None:
    failing = [
        Sample(arm=Arm.CANDIDATE, time_seconds=5.0 + second, error=True)
        for second in range(FEWEST_FAILURES - 1)
    ]
    samples = sorted(
        [*a_rollout(errors=(0.0, 0.0)), *failing], key=lambda sample: sample.time_seconds
    )

    assert judge(samples, LIMITS, now_seconds=SECONDS).trip is None


def test_without_errors_among_the_metrics_there_is_no_breaker() -> None:
    limits = limits_of(Metric.TTFT_P50)

    assert judge(a_rollout(errors=(0.0, 1.0)), limits, now_seconds=SECONDS).trip is None


def test_the_verdict_stands_whatever_comes_later() -> None:
    samples = a_rollout(errors=(0.0, 1.0))
    early = [sample for sample in samples if sample.time_seconds < 10.0]

    first = judge(early, LIMITS, now_seconds=10.0)

    assert first.cause is Cause.FAILING
    assert judge(samples, LIMITS, now_seconds=SECONDS).trip == first.trip


def test_there_is_something_to_see_during_the_warm_up() -> None:
    assert num_looks(LIMITS, now_seconds=9.0) == 0
    assert num_looks(LIMITS, now_seconds=20.0) == 2
    assert num_looks(limits_of(Metric.TTFT_P50), now_seconds=60.0) == 0


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.3])
def test_its_false_alarms_are_within_its_share_of_the_budget(rate: float) -> None:
    """A twentieth of alpha: of 200 rollouts, one at the most."""
    limits = Limits(alpha=0.1)
    trips = 0
    for run in range(200):
        rng = np.random.default_rng([15, run])
        num = 1500
        columns = Columns(
            time_s=np.sort(rng.uniform(0, 600, num)),
            is_candidate=rng.random(num) < 0.2,
            cluster=np.full(num, -1),
            fields={
                "error": (rng.random(num) < rate).astype(float),
                "incomplete": np.zeros(num),
            },
        )
        trips += trip(columns, limits, now_s=600.0) is not None

    assert trips <= 1
