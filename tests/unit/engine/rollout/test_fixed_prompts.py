"""Comparisons on fixed prompts: they judge quality where nobody asks, and nothing else."""

import random

import pytest

from rollouts import SECONDS, a_rollout, limits_of
from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_engine.deployment.verdicts import in_words
from tunesmith_engine.rollout.judge import Cause, Decision, judge
from tunesmith_engine.rollout.samples import Arm, Sample

LIMITS = limits_of(Metric.ERRORS, Metric.TTFT_P50, Metric.QUALITY_LOSS)


def prompts(loss: float, *, num: int = 20, times: int = 1) -> list[Sample]:
    """Each second one, from the beginning; `times` as often, as several replicas would."""
    return [
        Sample(
            arm=Arm.CANDIDATE,
            time_seconds=float(number + 30 * turn),
            quality_loss=loss + 0.02 * (number % 3 - 1),
            fixed_prompt=f"{number:016x}",
        )
        for turn in range(times)
        for number in range(num)
    ]


def test_a_model_that_is_worse_is_taken_back_without_one_request() -> None:
    verdict = judge(prompts(0.8), LIMITS, now_seconds=120.0)

    assert (verdict.decision, verdict.cause, verdict.metric) == (
        Decision.ROLLBACK,
        Cause.WORSE,
        Metric.QUALITY_LOSS,
    )
    assert "qualityLoss +0.8 nats against stable" in in_words(verdict, LIMITS)


def test_a_model_that_is_no_worse_waits_for_requests_and_says_so() -> None:
    verdict = judge(prompts(0.05, num=21), LIMITS, now_seconds=300.0)

    assert (verdict.decision, verdict.cause) == (Decision.INCONCLUSIVE, Cause.TOO_FEW_SAMPLES)
    assert in_words(verdict, LIMITS) == (
        "0 requests of each version after the warm-up, at least 50 are needed "
        "(rollout.analysis.minimumSamples); qualityLoss +0.05 nats on 21 prompts"
    )


def test_the_same_prompt_again_is_no_more_evidence() -> None:
    once = judge(prompts(0.2), LIMITS, now_seconds=SECONDS)

    again = judge(prompts(0.2, times=10), LIMITS, now_seconds=SECONDS)

    assert again.evidence == once.evidence


def test_they_are_no_requests_of_clients() -> None:
    """Neither for the smallest number of requests, nor as successes beside failures."""
    samples = a_rollout(errors=(0.01, 0.05))
    mixed = sorted([*samples, *prompts(0.0)], key=lambda sample: sample.time_seconds)

    without = judge(samples, LIMITS, now_seconds=SECONDS)
    verdict = judge(mixed, LIMITS, now_seconds=SECONDS)

    for metric in (Metric.ERRORS, Metric.TTFT_P50):
        rows = [
            next(row for row in seen.evidence if row.metric == metric)
            for seen in (without, verdict)
        ]
        assert rows[0].num_candidate == rows[1].num_candidate
        assert rows[0].effect == rows[1].effect


@pytest.mark.parametrize("seed", range(20))
def test_chance_alone_takes_nothing_back(seed: int) -> None:
    rng = random.Random(seed)
    samples = [
        sample.model_copy(update={"quality_loss": rng.gauss(0.0, 0.15)}) for sample in prompts(0.0)
    ]

    assert judge(samples, LIMITS, now_seconds=SECONDS).decision is Decision.INCONCLUSIVE
