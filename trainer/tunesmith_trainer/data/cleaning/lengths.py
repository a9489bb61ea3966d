"""Answers whose length is far from that of the others, by a robust z-score of its logarithm.

Median and median absolute deviation, since the outliers themselves would move mean and variance
(Iglewicz and Hoaglin 1993, whose bound of 3.5 is for few and normal values).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

_LEAST_ROWS: Final = 50
_BOUND: Final = 5.0
# The deviation of a normal distribution, of its median absolute deviation.
_NORMAL: Final = 1.4826
# Lengths of which most are the same have a deviation of nothing.
_LEAST_DEVIATION: Final = 0.25


def length_outliers(lengths: Sequence[int]) -> list[int]:
    """Places of the outliers; none among few rows."""
    if len(lengths) < _LEAST_ROWS:
        return []
    logs = np.log1p(np.asarray(lengths, np.float64))
    distances = np.abs(logs - np.median(logs))
    deviation = max(_NORMAL * float(np.median(distances)), _LEAST_DEVIATION)
    return [int(place) for place in np.flatnonzero(distances > _BOUND * deviation)]
