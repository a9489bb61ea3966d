"""The promises of the judge, counted on simulated rollouts from fixed seeds."""

import numpy as np
import pytest

from tunesmith_api.modeldeployment.limits import Limits, Metric, MetricLimits
from tunesmith_engine.rollout.columns import Columns
from tunesmith_engine.rollout.eprocess import Units, one_sample_log_e, two_sample_log_e
from tunesmith_engine.rollout.judge import Analysis, Decision

LIMITS = Limits(
    alpha=0.1,
    warmup_seconds=0.0,
    deadline_seconds=900.0,
    metrics={metric: MetricLimits() for metric in (Metric.ERRORS, Metric.TTFT_P50)},
)
NUM_RUNS = 200


def a_canary(run: int, *, slowdown: float = 1.0, more_errors: float = 0.0) -> Columns:
    rng = np.random.default_rng([7, run])
    num = 2700
    is_candidate = rng.random(num) < 0.5
    error = rng.random(num) < 0.01 + more_errors * is_candidate
    ttft = rng.lognormal(-1.4, 0.5, num) * np.where(is_candidate, slowdown, 1.0)
    return Columns(
        time_s=np.sort(rng.uniform(0, 900, num)),
        is_candidate=is_candidate,
        cluster=np.full(num, -1),
        fields={"error": error.astype(float), "ttft_seconds": np.where(error, np.nan, ttft)},
    )


def share_of(decision: Decision, *, slowdown: float = 1.0, more_errors: float = 0.0) -> float:
    count = 0
    for run in range(NUM_RUNS):
        columns = a_canary(run, slowdown=slowdown, more_errors=more_errors)
        analysis = Analysis(columns, LIMITS, now_seconds=900.0)
        look = analysis.deciding_look()
        count += look is not None and analysis.decision_at(look)[0] is decision
    return count / NUM_RUNS


def test_candidates_that_are_the_same_are_rolled_back_within_the_budget() -> None:
    assert share_of(Decision.ROLLBACK) <= LIMITS.alpha


@pytest.mark.parametrize("worse", [{"slowdown": 1.2}, {"more_errors": 0.01}])
def test_candidates_at_the_minimum_effect_are_promoted_within_the_budget(
    worse: dict[str, float],
) -> None:
    assert share_of(Decision.PROMOTE, **worse) <= LIMITS.alpha


def test_candidates_that_are_slower_by_a_fifth_are_rolled_back() -> None:
    assert share_of(Decision.ROLLBACK, slowdown=1.2) >= 0.95


def test_twice_the_minimum_of_errors_is_rolled_back() -> None:
    assert share_of(Decision.ROLLBACK, more_errors=0.02) >= 0.8


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.1])
@pytest.mark.parametrize("per_block", [(1, 1), (1, 9), (20, 20)])
def test_capital_does_not_grow_on_average_where_the_null_holds(
    sign: int, shift: float, per_block: tuple[int, int]
) -> None:
    """The definition of an e-process, after the last block, on the border of the null."""
    rng = np.random.default_rng(3)
    num_blocks, num_candidate, num_stable = 20, *per_block
    in_block = np.repeat([True, False], [num_candidate, num_stable])
    is_candidate = np.tile(in_block, num_blocks)
    block = np.repeat(np.arange(num_blocks), len(in_block))
    # The rate drifts, in both arms alike.
    rate = np.linspace(0.2, 0.6, num_blocks)[block] + shift * is_candidate
    capital = []
    for _ in range(2000):
        values = (rng.random(len(block)) < rate).astype(float)
        units = Units(values, is_candidate, block, np.ones(len(block)), num_blocks)
        log_e = two_sample_log_e(units, shift=shift, sign=1 if sign == 1 else -1, prior_mean=0.3)
        capital.append(float(np.exp(log_e[-1])))

    assert np.mean(capital) <= 1 + 3 * np.std(capital) / np.sqrt(len(capital))


@pytest.mark.parametrize("sign", [1, -1])
def test_capital_of_one_sample_does_not_grow_where_its_mean_is_the_null(sign: int) -> None:
    rng = np.random.default_rng(4)
    block = np.repeat(np.arange(20), 5)
    no_arm = np.ones(100, dtype=bool)
    capital = []
    for _ in range(2000):
        units = Units(rng.beta(2, 3, 100), no_arm, block, np.ones(100), 20)
        log_e = one_sample_log_e(units, mean=0.4, sign=1 if sign == 1 else -1)
        capital.append(float(np.exp(log_e[-1])))

    assert np.mean(capital) <= 1 + 3 * np.std(capital) / np.sqrt(len(capital))


def test_a_bet_never_costs_the_whole_capital() -> None:
    """Even where the guess of the rate is wholly wrong."""
    block = np.repeat(np.arange(50), 2)
    is_candidate = np.tile([True, False], 50)
    for values in (is_candidate.astype(float), (~is_candidate).astype(float)):
        units = Units(values, is_candidate, block, np.ones(100), 50)
        for sign in (1, -1):
            log_e = two_sample_log_e(units, shift=0.0, sign=1 if sign == 1 else -1, prior_mean=0.01)
            assert np.isfinite(log_e).all()
