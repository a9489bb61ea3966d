"""Bootstrap over rows: what clusters do to an interval, and that base and tuned are paired."""

import numpy as np
import pytest

from tunesmith_trainer.evaluate import bootstrap as module
from tunesmith_trainer.evaluate.bootstrap import Interval, bootstrap, bootstrap_gap, ratio


def interval_of(sums: list[float], weights: list[float]) -> Interval:
    found = bootstrap(np.array(sums), np.array(weights), resamples=2000, confidence=0.9)
    assert found is not None
    return found


def test_a_number_is_the_ratio_of_the_sums_not_the_mean_of_ratios() -> None:
    assert ratio(np.array([1.0, 9.0]), np.array([1.0, 3.0])) == 2.5


def test_the_interval_is_that_of_the_normal_distribution_where_rows_are_many() -> None:
    values = np.random.default_rng(1).normal(size=4000)

    found = interval_of(list(values), [1.0] * 4000)

    half_width = 1.645 * values.std() / 4000**0.5
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.005)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.005)


def test_rows_that_repeat_one_loss_for_every_token_are_as_wide_as_rows_of_one_token() -> None:
    """Tokens of one row add no evidence: resampled one by one they would be ten times narrower."""
    losses = list(np.random.default_rng(2).normal(size=50))

    short = interval_of(losses, [1.0] * 50)
    long = interval_of([100 * loss for loss in losses], [100.0] * 50)

    assert (long.low, long.high) == pytest.approx((short.low, short.high))


def test_rows_without_weight_change_nothing() -> None:
    with_blank = interval_of([1.0, 0.0, 2.0, 4.0], [1.0, 0.0, 1.0, 1.0])

    assert with_blank == interval_of([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("weights", [[1.0], [0.0, 1.0], [0.0, 0.0]])
def test_fewer_than_two_rows_have_no_spread(weights: list[float]) -> None:
    sums = np.ones(len(weights))

    assert bootstrap(sums, np.array(weights), resamples=100, confidence=0.9) is None


def test_base_and_tuned_get_the_same_resamples() -> None:
    base = [1.0, 2.0, 5.0, 3.0, 8.0]

    shifted = interval_of([value + 1.0 for value in base], [1.0] * 5)

    assert shifted.low == pytest.approx(interval_of(base, [1.0] * 5).low + 1.0)


def test_chunks_change_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = interval_of([1.0, 2.0, 5.0], [1.0, 2.0, 1.0])
    monkeypatch.setattr(module, "_CHUNK_CELLS", 30)

    assert interval_of([1.0, 2.0, 5.0], [1.0, 2.0, 1.0]) == whole


def test_a_gap_between_two_sets_is_as_wide_as_the_two_together() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(1.0, size=2000), random.normal(size=1000)

    found = bootstrap_gap(
        (first, np.ones(2000)), (second, np.ones(1000)), resamples=2000, confidence=0.9
    )

    assert found is not None
    half_width = 1.645 * (first.var() / 2000 + second.var() / 1000) ** 0.5
    gap = first.mean() - second.mean()
    assert found.low == pytest.approx(gap - half_width, abs=0.01)
    assert found.high == pytest.approx(gap + half_width, abs=0.01)


def test_two_sets_that_look_alike_are_not_taken_for_one() -> None:
    rows = (np.arange(20.0), np.ones(20))

    found = bootstrap_gap(rows, rows, resamples=500, confidence=0.9)

    assert found is not None
    assert found.low < -1 < 1 < found.high


def test_a_gap_to_a_single_row_has_no_interval() -> None:
    many, one = (np.arange(5.0), np.ones(5)), (np.ones(1), np.ones(1))

    assert bootstrap_gap(many, one, resamples=100, confidence=0.9) is None
    assert bootstrap_gap(one, many, resamples=100, confidence=0.9) is None
