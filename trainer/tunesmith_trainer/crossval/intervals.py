"""The mean over folds, and its interval by Student's t (Student 1908). Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

# Of Simpson's rule, and of the bisection: both far finer than anybody reads.
_INTERVALS: Final = 200
_HALVINGS: Final = 60
_WIDEST: Final = 1e3


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
    half = t_quantile(len(values) - 1) * deviation / math.sqrt(len(values))
    return MeanInterval(mean=mean, low=mean - half, high=mean + half, deviation=deviation)


def t_quantile(degrees: int, *, level: float = 0.95) -> float:
    """How many standard errors the two-sided interval reaches to each side."""
    low, high = 0.0, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * _mass(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _mass(end: float, degrees: int) -> float:
    """The probability between 0 and `end`; t = sqrt(n) tan(a) makes the range finite."""
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    last = math.atan(end / math.sqrt(degrees))
    width = last / _INTERVALS
    weights = [1, *([4, 2] * (_INTERVALS // 2))[:-1], 1]
    total = sum(
        weight * math.cos(index * width) ** (degrees - 1) for index, weight in enumerate(weights)
    )
    return scale * total * width / 3
