"""What the judge decides, on rollouts whose truth is known."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts import SECONDS, a_rollout, limits_of
from tunesmith_api.modeldeployment.limits import Limits, Metric, MetricLimits
from tunesmith_engine.rollout.judge import Cause, Decision, judge
from tunesmith_engine.rollout.samples import Arm, Sample

PLAIN = limits_of(Metric.ERRORS, Metric.TTFT_P50)


@pytest.mark.parametrize(
    ("rollout", "metrics", "decision", "metric"),
    [
        ({}, (Metric.ERRORS, Metric.TTFT_P50), Decision.PROMOTE, Metric.ERRORS),
        ({"slowdown": 1.4}, (Metric.TTFT_P50,), Decision.ROLLBACK, Metric.TTFT_P50),
        ({"slowdown": 1.4, "share": 0.1}, (Metric.TTFT_P50,), Decision.ROLLBACK, Metric.TTFT_P50),
        ({"slowdown": 0.6}, (Metric.TTFT_P50,), Decision.PROMOTE, Metric.TTFT_P50),
        (
            {"slowdown": 1.4},
            (Metric.ERRORS, Metric.TTFT_P50, Metric.TTFT_P90),
            Decision.ROLLBACK,
            Metric.TTFT_P50,
        ),
        ({"errors": (0.005, 0.05)}, (Metric.ERRORS,), Decision.ROLLBACK, Metric.ERRORS),
        ({"errors": (0.05, 0.0)}, (Metric.ERRORS,), Decision.PROMOTE, Metric.ERRORS),
        ({"errors": (0.0, 0.0)}, (Metric.ERRORS,), Decision.PROMOTE, Metric.ERRORS),
        ({"errors": (0.0, 1.0)}, (Metric.ERRORS,), Decision.ROLLBACK, Metric.ERRORS),
        ({"quality_loss": 0.2}, (Metric.QUALITY_LOSS,), Decision.ROLLBACK, Metric.QUALITY_LOSS),
        ({"quality_loss": -0.1}, (Metric.QUALITY_LOSS,), Decision.PROMOTE, Metric.QUALITY_LOSS),
        ({}, (Metric.REFUSALS,), Decision.PROMOTE, Metric.REFUSALS),
    ],
)
def test_a_rollout_is_judged_by_what_it_shows(
    rollout: dict[str, Any], metrics: tuple[Metric, ...], decision: Decision, metric: Metric
) -> None:
    verdict = judge(a_rollout(**rollout), limits_of(*metrics), now_seconds=SECONDS)

    assert (verdict.decision, verdict.metric) == (decision, metric)
    assert verdict.is_final


@pytest.mark.parametrize(
    ("factor", "worse"), [(2.0, Metric.LONGER_ANSWERS), (0.5, Metric.SHORTER_ANSWERS)]
)
def test_answers_may_become_neither_longer_nor_shorter(factor: float, worse: Metric) -> None:
    samples = [
        sample.model_copy(update={"output_tokens": int(sample.output_tokens * factor)})
        if sample.arm is Arm.CANDIDATE and sample.output_tokens
        else sample
        for sample in a_rollout()
    ]
    limits = limits_of(Metric.LONGER_ANSWERS, Metric.SHORTER_ANSWERS)

    verdict = judge(samples, limits, now_seconds=SECONDS)

    assert (verdict.decision, verdict.metric) == (Decision.ROLLBACK, worse)
    (seen,) = [evidence for evidence in verdict.evidence if evidence.metric is worse]
    assert seen.lower <= 1.0 <= seen.upper


def test_a_difference_that_is_certain_but_small_rolls_nothing_back() -> None:
    """Half a minimum effect is where harm begins to matter."""
    limits = limits_of(Metric.TTFT_P50)
    wide = MetricLimits(minimum_effect=1.0)

    verdict = judge(a_rollout(slowdown=1.25), limits, now_seconds=SECONDS)
    lenient = judge(
        a_rollout(slowdown=1.25), limits_of(metrics={Metric.TTFT_P50: wide}), now_seconds=SECONDS
    )

    assert verdict.decision is Decision.ROLLBACK
    assert lenient.decision is Decision.PROMOTE


def test_what_is_tolerated_rolls_nothing_back() -> None:
    """Stable's own answers lose under every other model; so much is no harm."""
    tolerant = MetricLimits(tolerated=0.25, minimum_effect=0.35)
    samples = a_rollout(quality_loss=0.2)

    strict = judge(samples, limits_of(Metric.QUALITY_LOSS), now_seconds=SECONDS)
    verdict = judge(
        samples, limits_of(metrics={Metric.QUALITY_LOSS: tolerant}), now_seconds=SECONDS
    )

    assert strict.decision is Decision.ROLLBACK
    assert verdict.decision is Decision.PROMOTE


def test_the_bounds_hold_the_true_effect() -> None:
    limits = limits_of(Metric.ERRORS, Metric.TTFT_P50, Metric.QUALITY_LOSS)

    verdict = judge(
        a_rollout(slowdown=1.4, errors=(0.01, 0.03), quality_loss=0.1), limits, now_seconds=SECONDS
    )

    for seen, truth in zip(verdict.evidence, (0.02, 0.4, 0.1), strict=True):
        assert seen.effect is not None
        assert seen.lower <= truth <= seen.upper
        assert seen.lower < seen.effect < seen.upper


def test_too_few_samples_settle_nothing_however_bad_they_are() -> None:
    limits = limits_of(Metric.TTFT_P50, minimum_samples=500)

    verdict = judge(a_rollout(num=600, slowdown=9.0), limits, now_seconds=SECONDS - 1)

    assert (verdict.decision, verdict.cause) == (Decision.INCONCLUSIVE, Cause.TOO_FEW_SAMPLES)
    assert not verdict.is_final


def test_no_traffic_is_no_verdict() -> None:
    verdict = judge([], PLAIN, now_seconds=300)

    assert verdict.decision is Decision.INCONCLUSIVE
    assert [seen.effect for seen in verdict.evidence] == [None, None]
    assert [(seen.lower, seen.upper) for seen in verdict.evidence] == [(-math.inf, math.inf)] * 2
    assert verdict.more_requests is None


def test_nothing_is_judged_before_the_first_window_is_over() -> None:
    verdict = judge(a_rollout(), PLAIN, now_seconds=PLAIN.warmup_seconds + 9)

    assert (verdict.decision, verdict.at_seconds) == (Decision.INCONCLUSIVE, None)


def test_an_arm_that_answers_nothing_leaves_the_rollout_open() -> None:
    only_stable = [sample for sample in a_rollout() if sample.arm is Arm.STABLE]

    verdict = judge(only_stable, PLAIN, now_seconds=SECONDS)

    assert (verdict.decision, verdict.cause) == (
        Decision.INCONCLUSIVE,
        Cause.DEADLINE_EXCEEDED,
    )
    assert verdict.is_final


def test_a_metric_that_is_never_observed_is_named() -> None:
    """What is listed has to be shown before a candidate is promoted."""
    limits = limits_of(Metric.ERRORS, Metric.QUALITY_LOSS)

    verdict = judge(a_rollout(), limits, now_seconds=SECONDS)

    assert (verdict.decision, verdict.metric) == (Decision.INCONCLUSIVE, Metric.QUALITY_LOSS)
    assert verdict.more_requests is None


def test_what_would_settle_it_is_about_what_settles_it() -> None:
    limits = limits_of(Metric.ERRORS)
    samples = a_rollout(num=6000)
    early = judge(samples[:900], limits, now_seconds=samples[899].time_seconds)

    late = judge(samples, limits, now_seconds=SECONDS)

    assert early.decision is Decision.INCONCLUSIVE
    assert early.more_requests is not None
    assert late.at_seconds is not None
    needed = sum(1 for sample in samples if sample.time_seconds < late.at_seconds) - 900
    assert needed / 4 < early.more_requests < needed * 4


def test_samples_after_the_deadline_do_not_count() -> None:
    samples = a_rollout(slowdown=3.0)
    limits = limits_of(Metric.TTFT_P50, deadline_seconds=75.0, minimum_samples=200)

    verdict = judge(samples, limits, now_seconds=SECONDS)

    assert (verdict.decision, verdict.cause) == (Decision.INCONCLUSIVE, Cause.DEADLINE_EXCEEDED)


def test_a_verdict_stands_whatever_comes_after_it() -> None:
    samples = a_rollout(errors=(0.005, 0.1))
    first = judge(samples, PLAIN, now_seconds=SECONDS)
    assert first.at_seconds is not None
    mended = [
        sample.model_copy(update={"error": False})
        if sample.time_seconds > first.at_seconds
        else sample
        for sample in samples
    ]

    assert judge(mended, PLAIN, now_seconds=SECONDS) == first


def test_cold_caches_are_no_harm() -> None:
    samples = [
        sample.model_copy(update={"ttft_seconds": 30.0})
        if sample.arm is Arm.CANDIDATE and sample.time_seconds < PLAIN.warmup_seconds
        else sample
        for sample in a_rollout()
    ]

    assert judge(samples, PLAIN, now_seconds=SECONDS).decision is Decision.PROMOTE


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), slowdown=st.sampled_from([0.8, 1.0, 1.2, 1.5]))
def test_samples_of_the_warm_up_count_for_neither_arm(seed: int, slowdown: float) -> None:
    samples = a_rollout(seed=seed, num=600, slowdown=slowdown)
    warm = [sample for sample in samples if sample.time_seconds >= PLAIN.warmup_seconds]

    assert judge(samples, PLAIN, now_seconds=SECONDS) == judge(warm, PLAIN, now_seconds=SECONDS)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_samples_of_an_instant_does_not_matter(seed: int, data: st.DataObject) -> None:
    """In whole seconds there are many of each; the whole list may be shuffled, too."""
    samples = [
        sample.model_copy(update={"time_seconds": float(int(sample.time_seconds))})
        for sample in a_rollout(seed=seed, num=300, errors=(0.02, 0.1))
    ]
    shuffled = data.draw(st.permutations(samples))

    assert judge(samples, PLAIN, now_seconds=SECONDS) == judge(shuffled, PLAIN, now_seconds=SECONDS)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    slowdown=st.sampled_from([1.0, 1.2, 1.5]),
    worse=st.floats(0.0, 0.2),
    part=st.floats(0.2, 1.0),
)
def test_later_looks_never_turn_a_verdict(
    seed: int, slowdown: float, worse: float, part: float
) -> None:
    samples = a_rollout(seed=seed, num=800, slowdown=slowdown, errors=(0.01, 0.01 + worse))
    now_s = part * SECONDS
    early = judge(
        [sample for sample in samples if sample.time_seconds <= now_s], PLAIN, now_seconds=now_s
    )

    late = judge(samples, PLAIN, now_seconds=SECONDS)

    if early.decision is not Decision.INCONCLUSIVE:
        assert late == early


@pytest.mark.parametrize("times", [2, 4])
def test_more_of_the_same_evidence_seldom_turns_a_rollback_into_a_promotion(times: int) -> None:
    """Never would be too much.

    An early look at few samples, each counted several times, may promote what is worse; alpha
    bounds that, as it does any promotion of a worse candidate.
    """
    flipped = rolled_back = 0
    for seed in range(60):
        samples = a_rollout(seed=seed, num=800, errors=(0.01, 0.08))
        if judge(samples, PLAIN, now_seconds=SECONDS).decision is not Decision.ROLLBACK:
            continue
        rolled_back += 1
        repeated = [sample for sample in samples for _ in range(times)]
        more = judge(repeated, PLAIN, now_seconds=SECONDS)
        flipped += more.decision is Decision.PROMOTE

    assert rolled_back > 30
    assert flipped <= PLAIN.alpha * rolled_back


@pytest.mark.parametrize("size", [2, 20])
def test_a_conversation_counts_once_however_much_it_says(size: int) -> None:
    """One broken conversation of the candidate's is one failure, not twenty."""
    limits = limits_of(Metric.ERRORS, unit="cluster", minimum_samples=1)
    samples = [
        Sample(
            arm=Arm.CANDIDATE if index % 2 else Arm.STABLE,
            time_seconds=60.0 + index,
            error=index == 41,
            cluster=f"{index:08x}",
        )
        for index in range(400)
    ]
    repeated = [sample for sample in samples for _ in range(size if sample.error else 1)]

    once = judge(samples, limits, now_seconds=SECONDS)
    verdict = judge(repeated, limits, now_seconds=SECONDS)

    assert [seen.harm for seen in verdict.evidence] == [seen.harm for seen in once.evidence]


def test_what_a_conversation_shows_late_is_seen_within_its_time_of_watching() -> None:
    limits = limits_of(Metric.ERRORS, unit="cluster", cluster_window_seconds=60.0)
    samples = [
        Sample(
            arm=Arm.CANDIDATE if index % 2 else Arm.STABLE,
            time_seconds=60.0 + index + 50.0 * turn,
            error=bool(turn and index % 2),
            cluster=f"{index:08x}",
        )
        for index in range(300)
        for turn in (0, 1)
    ]

    verdict = judge(samples, limits, now_seconds=SECONDS)

    assert verdict.decision is Decision.ROLLBACK


@pytest.mark.parametrize(
    ("given_limits", "said"),
    [
        ({"metrics": {"errors": {"tolerated": 0.01}}}, "has to be below the minimum effect"),
        ({"metrics": {"errors": {"minimumEffect": 1.0}}}, "no effect can reach"),
        ({"deadlineSeconds": 60}, "has to leave one window"),
        ({"metrics": {}}, "at least 1 item"),
        ({"alpha": 0}, "greater than 0"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(given_limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Limits.model_validate(given_limits)
