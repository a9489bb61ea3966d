"""Losses of two arms of a study on the same held-out rows, over the same seeds."""

import statistics
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 2000


def paired_difference(
    mine: NDArray[np.float64], other: NDArray[np.float64], *, weights: NDArray[np.float64]
) -> dict[str, Any]:
    """The first arm's loss less the second's, in nats a target: by seed, mean and 95 % interval.

    `mine` and `other` are nats of seeds x rows, `weights` the targets of each row. The interval is
    of the mean over those seeds, rows drawn in pairs: what other held-out rows would tell of these
    runs.
    """
    apart = mine - other
    by_seed = apart.sum(axis=1) / weights.sum()
    rows = apart.mean(axis=0)
    drawn = np.random.default_rng(0).integers(len(rows), size=(RESAMPLES, len(rows)))
    ratios = rows[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "bySeed": [round(float(each), 4) for each in by_seed],
        "mean": round(statistics.fmean(by_seed), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }
