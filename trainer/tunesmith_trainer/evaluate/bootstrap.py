"""Percentile bootstrap over rows: how far a measured number might move on other rows like these.

Every number of an evaluation is a ratio of two sums over rows: summed loss over target tokens, or
summed scores over answers. Rows are the clusters that are resampled (Efron 1979, Annals of
Statistics 7, 1-26), not tokens: those of one row depend on each other, and intervals over tokens
would be far too narrow. A fixed seed gives base and tuned the same resamples, so differences are
paired.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

# Not the job's seed: two jobs on the same rows are compared, too.
SEED = 0
# With fewer rows an interval is too wide to tell a gain from chance, which stages say as a warning.
FEW_ROWS = 30
# Drawn row numbers held at once, 32 MB of them.
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds between which the number lies with the asked confidence."""

    low: float
    high: float


def ratio(sums: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The number itself: all sums over all weights."""
    return float(sums.sum() / weights.sum())


def bootstrap(
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    resamples: int,
    confidence: float,
    seed: int = SEED,
) -> Interval | None:
    """The interval of `ratio(sums, weights)`; None for fewer than two rows, which have no spread.

    Rows without weight carry no evidence and are left out.
    """
    ratios = _resampled(sums, weights, resamples=resamples, seed=seed)
    return None if ratios is None else _interval(ratios, confidence=confidence)


def bootstrap_gap(
    first: tuple[Rows, Rows],
    second: tuple[Rows, Rows],
    *,
    resamples: int,
    confidence: float,
) -> Interval | None:
    """The interval of `ratio(*first) - ratio(*second)`, of two sets of rows that share none.

    Each is given as (sums, weights). None if either has fewer than two rows.
    """
    drawn = [
        # NB: seeds of their own. Equal draws from two sets would pair rows that have nothing to do
        # with each other, and equal sets would seem to differ by nothing at all.
        _resampled(*rows, resamples=resamples, seed=SEED + index)
        for index, rows in enumerate((first, second))
    ]
    if drawn[0] is None or drawn[1] is None:
        return None
    return _interval(drawn[0] - drawn[1], confidence=confidence)


def _resampled(sums: Rows, weights: Rows, *, resamples: int, seed: int) -> Rows | None:
    """The ratio in each resample, shape (resamples,); None for fewer than two rows."""
    counted = weights > 0
    sums, weights = sums[counted], weights[counted]
    if len(sums) < 2:  # noqa: PLR2004 - a spread needs two
        return None
    random = np.random.default_rng(seed)
    # The generator fills chunks in order, so their size changes no interval.
    chunk = max(1, _CHUNK_CELLS // len(sums))
    ratios = []
    for start in range(0, resamples, chunk):
        drawn = random.integers(len(sums), size=(min(chunk, resamples - start), len(sums)))
        # NB: the ratio of the sums, not the mean of the rows' ratios: long rows weigh more.
        ratios.append(sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    return np.concatenate(ratios)


def _interval(ratios: Rows, *, confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))
