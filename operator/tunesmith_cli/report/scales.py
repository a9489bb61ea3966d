"""From values to places on a chart, with ticks at round numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` are placed from `start` to `end`, in the units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, *, num: int = 5) -> list[float]:
        """About `num` round numbers within the scale."""
        step = _round_step((self.high - self.low) / num)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def scale_over(values: Iterable[float], *, start: float, end: float, margin: float = 0.06) -> Scale:
    """A scale that holds every value, with some air at both ends."""
    found = list(values)
    low, high = min(found), max(found)
    air = (high - low) * margin or abs(high) * margin or 1.0
    return Scale(low=low - air, high=high + air, start=start, end=end)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(each * power for each in _ROUND if each * power >= rough * (1 - 1e-9))
