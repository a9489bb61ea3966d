"""What happened in the last minutes, hours and days: sums by time, in bounded memory.

Each amount is added at three resolutions, so that a window is read from the finest that reaches as
far back: minutes for two hours, half hours for three days, days for thirty.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import Field

from tunesmith_api.base import ApiModel

# Seconds of a slot, and how many are kept: one more than the longest window has.
RESOLUTIONS: Final[Mapping[int, int]] = {60: 121, 1800: 145, 86_400: 31}


class Slot(ApiModel):
    """The sums of one stretch of time; `index` counts stretches since 1970."""

    index: int
    sums: list[float]


class Tally(ApiModel):
    """Sums that belong together, such as all requests and the good ones, by time."""

    since: datetime | None = None
    # By the seconds of a slot, in order of time. Keys are texts in JSON.
    slots: dict[int, list[Slot]] = Field(default_factory=dict)

    def add(self, amounts: Sequence[float], *, now: datetime) -> "Tally":
        """The tally with `amounts` counted at `now`; no slot is taken for nothing."""
        if not any(amounts):
            return self if self.since is not None else Tally(since=now)
        slots = {}
        for seconds, most in RESOLUTIONS.items():
            index = _index(now, seconds)
            # NB: what a clock that was set back had counted ahead would else stand there for ever.
            kept = [
                slot for slot in self.slots.get(seconds, ()) if index - most < slot.index <= index
            ]
            if kept and kept[-1].index == index:
                before = kept.pop().sums
                amounts_then = [old + new for old, new in zip(before, amounts, strict=True)]
            else:
                amounts_then = list(amounts)
            slots[seconds] = [*kept, Slot(index=index, sums=amounts_then)]
        return Tally(since=min(self.since or now, now), slots=slots)

    def over(self, window_s: float, *, now: datetime) -> tuple[float, ...]:
        """The sums of the last seconds, to a slot; empty without any."""
        seconds = _resolution(window_s)
        index, num_slots = _index(now, seconds), max(1, round(window_s / seconds))
        rows = [
            slot.sums
            for slot in self.slots.get(seconds, ())
            if index - num_slots < slot.index <= index
        ]
        return tuple(map(sum, zip(*rows, strict=True)))

    def coverage(self, window_s: float, *, now: datetime) -> float:
        """The part of the window, 0 to 1, since anything was counted at all."""
        if self.since is None:
            return 0.0
        return min(1.0, max(0.0, (now - self.since).total_seconds()) / window_s)


def _resolution(window_s: float) -> int:
    return next(
        (size for size, most in RESOLUTIONS.items() if window_s <= size * (most - 1)),
        max(RESOLUTIONS),
    )


def _index(now: datetime, seconds: int) -> int:
    return int(now.timestamp() // seconds)
