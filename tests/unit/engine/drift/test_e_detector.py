"""The odds that are bet at, whatever was seen before, and the baseline when a clock jumps."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_engine.drift.baseline import Baseline, Limits
from tunesmith_engine.drift.e_detector import NUM_HALF_LIVES, THRESHOLD_LOG_E, Detectors
from tunesmith_engine.drift.events import NUM_EVENTS, RUNS, SIGNAL_OF

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
OBSERVED = np.full(len(RUNS), 16.0)


def detectors_and_limits(seed: int, weight: float) -> tuple[Detectors, Limits]:
    """Detectors that have seen more of some events than they may, and less of others."""
    chance = np.random.default_rng(seed)
    weights = np.full((NUM_HALF_LIVES, len(RUNS)), weight)
    shares = chance.random(NUM_EVENTS) ** 3
    recent = np.clip(shares + chance.normal(0, 0.1, (NUM_HALF_LIVES, NUM_EVENTS)), 0, 1)
    begun = Detectors.new()
    detectors = Detectors(
        chance.uniform(0, THRESHOLD_LOG_E, begun.log_capital.shape),
        recent * weights[:, SIGNAL_OF],
        weights,
    )
    largest = np.minimum(1.1 * shares + 0.005, 1.0)
    return detectors, Limits(shares, largest, chance.random(NUM_EVENTS) * 0.01)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), weight=st.floats(1, 1000))
def test_traffic_at_its_limits_earns_nobody_anything(seed: int, weight: float) -> None:
    """What is gained is linear in the shares: so nobody may expect to gain below the limits."""
    detectors, limits = detectors_and_limits(seed, weight)

    after = detectors.bet(limits.largest, OBSERVED, limits)

    assert (after.log_capital <= detectors.log_capital + 1e-9).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), weight=st.floats(1, 1000))
def test_no_block_ruins_or_is_worth_more_than_can_be_lost_again(seed: int, weight: float) -> None:
    detectors, limits = detectors_and_limits(seed, weight)

    for vector in (np.zeros(NUM_EVENTS), np.ones(NUM_EVENTS)):
        after = detectors.bet(vector, OBSERVED, limits)
        assert np.isfinite(after.log_capital).all()
        assert after.log_e.max() <= THRESHOLD_LOG_E + 11


def test_a_signal_that_was_not_observed_keeps_its_evidence() -> None:
    detectors, limits = detectors_and_limits(1, 100)

    after = detectors.bet(np.zeros(NUM_EVENTS), np.zeros(len(RUNS)), limits)

    np.testing.assert_allclose(after.log_capital, detectors.log_capital)
    np.testing.assert_allclose(after.recent, detectors.recent)


def test_a_clock_that_was_years_ahead_does_not_stop_the_day() -> None:
    vector, prior = np.full(NUM_EVENTS, 0.2), np.full(NUM_EVENTS, 0.3)
    baseline = Baseline(prior).at(MONDAY + timedelta(days=4000)).learn(vector, OBSERVED)

    back = baseline.at(MONDAY).learn(vector, OBSERVED).at(MONDAY + timedelta(hours=6))

    assert back.hour == int((MONDAY + timedelta(hours=6)).timestamp()) // 3600
    np.testing.assert_allclose(back.weights, 32.0, rtol=0.01)
