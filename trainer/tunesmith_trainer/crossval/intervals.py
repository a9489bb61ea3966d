"""The mean over folds, and its interval by Student's t (Student 1908). Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

from scipy.special import stdtrit

_UPPER: Final = 0.975


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """A mean, and the bounds of its 95 % interval.

    NB: folds share training rows, so that their losses are not independent and the interval is
    somewhat too narrow (Bengio & Grandvalet 2004, JMLR 5).
    """

    mean: float
    low: float
    high: float
    deviation: float


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Of two values or more."""
    mean, deviation = fmean(values), stdev(values)
    half = float(stdtrit(len(values) - 1, _UPPER)) * deviation / math.sqrt(len(values))
    return MeanInterval(mean=mean, low=mean - half, high=mean + half, deviation=deviation)
