"""The last requests in order of arrival, for whoever judges; bounded, oldest dropped first.

Readers keep their own place by sequence numbers, so several may read, and one that was killed reads
on. Only what arrived before the oldest request under way is given: samples come in order of
arrival, whenever they end.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Protocol

CAPACITY: Final = 8192
# A hanging request must not hold back those behind it for ever.
LONGEST_WAIT_SECONDS: Final = 60.0


class Entry(Protocol):
    """What the ring holds: `arrived` is the clock's time, `is_over` whether nothing more comes."""

    @property
    def arrived(self) -> float: ...

    @property
    def is_over(self) -> bool: ...

    def fields(self, *, now: float) -> dict[str, Any]:
        """The fields of a sample, but `arm` and `timeSeconds`."""
        ...


@dataclass(frozen=True, slots=True)
class SamplePage:
    """What a reader is given.

    `next` is its new place. `dropped` is how many it has missed. `watermark_seconds` is the age
    beyond which nothing more will come.
    """

    next: int
    dropped: int
    watermark_seconds: float
    samples: list[dict[str, Any]]


class SampleRing:
    """Measurements of requests, and comparisons on fixed prompts, by sequence number."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._last = 0
        self._last_dropped = 0

    def add(self, entry: Entry) -> int:
        """A request has arrived: its sequence number, from 1."""
        self._last += 1
        self._entries[self._last] = entry
        if len(self._entries) > self._capacity:
            self._last_dropped, _ = self._entries.popitem(last=False)
        return self._last

    def forget(self, seq: int) -> None:
        """It was nobody's request after all."""
        self._entries.pop(seq, None)

    def after(self, seq: int, *, limit: int, now: float) -> SamplePage:
        """Up to `limit` samples behind the place `seq`."""
        samples: list[dict[str, Any]] = []
        watermark, place = 0.0, max(seq, self._last_dropped)
        for number, entry in self._entries.items():
            if number <= seq:
                continue
            age = now - entry.arrived
            if len(samples) == limit or not (entry.is_over or age > LONGEST_WAIT_SECONDS):
                watermark = age
                break
            samples.append({"seq": number, "ageSeconds": age, **entry.fields(now=now)})
            place = number
        return SamplePage(
            next=place,
            dropped=max(0, self._last_dropped - seq),
            watermark_seconds=watermark,
            samples=samples,
        )
