"""Percentile bootstrap over rows: how far a measured number might move on other rows like these.

Every number of an evaluation is a ratio of two sums over rows: summed loss over target tokens, or
summed scores over answers. Rows are resampled, not tokens, because the tokens of one row hang
together. A fixed seed gives base and tuned the same resamples, so differences are paired.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 0
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
    counted = weights > 0
    sums, weights = sums[counted], weights[counted]
    if len(sums) < 2:  # noqa: PLR2004 - a spread needs two
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(_resampled(sums, weights, resamples, seed), [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))


def _resampled(
    sums: NDArray[np.float64], weights: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """The ratio of each resample, drawn in chunks so that many rows do not fill the memory."""
    random = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // len(sums))
    ratios = []
    for start in range(0, resamples, chunk):
        drawn = random.integers(len(sums), size=(min(chunk, resamples - start), len(sums)))
        ratios.append(sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    return np.concatenate(ratios)
