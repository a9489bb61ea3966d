"""The settings that a search may try, as points of a unit cube, and the way of others into it.

Distances between settings are taken there: a learning rate counts by its logarithm, a word by being
the same or another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from tunesmith_engine.search_memory.records import Setting, Settings

# A number further outside than this part of its range was good in another region than the one
# that is searched; nearer by, the edge is the best guess.
_REACH: Final = 0.5


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both of them meant; `step` counts from `low`."""

    path: str
    low: float
    high: float
    is_log: bool = False
    is_int: bool = False
    step: float | None = None

    def coordinate(self, value: Setting) -> float | None:
        """Where a number lies: 0 at `low`, 1 at `high`; None of what is no number."""
        if isinstance(value, bool | str) or not math.isfinite(value):
            return None
        if self.is_log and value <= 0:
            return None
        low, high, here = (self._scaled(each) for each in (self.low, self.high, float(value)))
        return 0.0 if high == low else (here - low) / (high - low)

    def projected(self, value: Setting) -> Setting | None:
        """The nearest value of the range; None where `value` is too far outside."""
        place = self.coordinate(value)
        if place is None or not -_REACH <= place <= 1 + _REACH:
            return None
        # Of equal ends, every other number is in another region.
        if self.low == self.high and value != self.low:
            return None
        return self._on_grid(min(max(float(value), self.low), self.high))

    def _on_grid(self, value: float) -> Setting:
        if self.step is not None:
            last = math.floor((self.high - self.low) / self.step + 1e-9)
            value = self.low + self.step * min(round((value - self.low) / self.step), last)
        return round(value) if self.is_int else value

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


@dataclass(frozen=True)
class Choices:
    """One of these; numbers among them are in order, so that neighbours are near."""

    path: str
    options: Sequence[Setting]

    def coordinate(self, value: Setting) -> float | None:
        """The place of an option among the others; None of what is none."""
        place = next((i for i, option in enumerate(self.options) if _same(option, value)), None)
        if place is None:
            return None
        return place / max(len(self.options) - 1, 1)

    def projected(self, value: Setting) -> Setting | None:
        """The option; None where it is none of them."""
        return next((option for option in self.options if _same(option, value)), None)

    # NB: kept, for distances ask it thousands of times for each proposal.
    @cached_property
    def is_ordered(self) -> bool:
        """Whether all are numbers that grow."""
        numbers = [x for x in self.options if isinstance(x, int | float) and not _is_bool(x)]
        return len(numbers) == len(self.options) and list(numbers) == sorted(numbers)


Dimension = Range | Choices
Point = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Only:
    """A dimension is searched only beside these values of another one, which has no condition."""

    beside: str
    values: frozenset[Setting]

    def holds(self, settings: Settings) -> bool:
        """Whether it is searched; where the other setting is not known, nobody can say."""
        other = settings.get(self.beside)
        return any(other is not None and _same(other, value) for value in self.values)


@dataclass(frozen=True, slots=True)
class Space:
    """All dimensions of a search, and the conditions of some."""

    dimensions: Sequence[Dimension]
    conditions: Mapping[str, Only] = field(default_factory=dict)

    def projected(self, settings: Settings) -> Settings | None:
        """The part of settings that the space is about, each within it.

        A setting that is not known is left out, and the sampler's to choose. None where one is too
        far outside, or nothing is left.
        """
        inside: Settings = {}
        for dimension in self.dimensions:
            if dimension.path not in settings:
                continue
            value = dimension.projected(settings[dimension.path])
            if value is None:
                return None
            inside[dimension.path] = value
        return self._searched(inside) or None

    def _searched(self, settings: Settings) -> Settings:
        """Without what is not searched beside the others."""
        return {
            path: value
            for path, value in settings.items()
            if path not in self.conditions or self.conditions[path].holds(settings)
        }

    def point(self, settings: Settings) -> Point:
        """The coordinates of those settings that have one."""
        places = {
            dimension.path: dimension.coordinate(settings[dimension.path])
            for dimension in self.dimensions
            if dimension.path in settings
        }
        return {path: place for path, place in places.items() if place is not None}

    def squared_distance(self, one: Point, other: Point) -> float:
        """Between two points: the mean over dimensions; one that only one of them has is a quarter.

        A quarter is half of the range, squared.
        """
        if not self.dimensions:
            return 0.0
        return sum(self._apart(each, one, other) for each in self.dimensions) / len(self.dimensions)

    def _apart(self, dimension: Dimension, one: Point, other: Point) -> float:
        path = dimension.path
        if path not in one and path not in other:
            return 0.0
        if path not in one or path not in other:
            return 0.25
        if isinstance(dimension, Choices) and not dimension.is_ordered:
            return 0.0 if one[path] == other[path] else 1.0
        return (one[path] - other[path]) ** 2


def _is_bool(value: Setting) -> bool:
    return isinstance(value, bool)


def _same(one: Setting, other: Setting) -> bool:
    """Equal, and of one kind: in Python True is 1, and 16.0 is 16."""
    return one == other and _is_bool(one) == _is_bool(other)
