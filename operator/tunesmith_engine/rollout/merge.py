"""Samples of several replicas, merged by arrival into the one stream that a judge reads.

Each replica keeps its last requests in a ring and tells how old they are; `SampleMerger` puts them
on the clock of the rollout, and lets through what nothing earlier can come before any more. All of
it is rebuilt from the rings after a restart of the reader; what the rings have lost is counted.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from tunesmith_api.json_io import finite_number
from tunesmith_engine.rollout.recording import MAX_SAMPLES
from tunesmith_engine.rollout.samples import Arm, Sample

# Seconds. A replica tells of a request after 60 at the latest, so one that is silent for longer has
# nothing to tell, and those that answer must not wait for it.
LONGEST_HOLD_S: Final = 75.0
_PLACE: Final = frozenset({"seq", "ageSeconds"})


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a replica to a question for samples, as it was read.

    `read_at` is the reader's clock in seconds since the rollout began. `next`, `dropped`,
    `watermark_seconds` and `samples` are the replica's own words; ages are in seconds.
    """

    replica: str
    arm: Arm
    instance: str
    next: int
    dropped: int
    watermark_seconds: float
    samples: tuple[Mapping[str, Any], ...]
    read_at: float


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a replica was read: its process, the place, and until when nothing more will come."""

    instance: str
    next: int
    until: float


@dataclass(frozen=True, slots=True)
class SampleMerger:
    """What was merged so far.

    `samples` are in order of arrival, and complete up to `until`; `held` came after that.
    `num_lost` counts requests of which nothing is known any more: they fell out of a ring before
    they were read, were told of in words that this release does not know, or came when `capacity`
    samples were there.
    """

    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    held: tuple[Sample, ...] = ()
    until: float = 0.0
    num_lost: int = 0
    capacity: int = MAX_SAMPLES

    def after(self, replica: str) -> int:
        """The place behind which a replica is to be asked next."""
        cursor = self.cursors.get(replica)
        return cursor.next if cursor is not None else 0

    def merge(
        self, pages: Iterable[Page], *, replicas: Collection[str], now: float
    ) -> "SampleMerger":
        """The merger that has read these pages too.

        `replicas` are all that may still tell something; one that does not answer holds the others
        back for a while. `now` is on the clock of `Page.read_at`.
        """
        cursors = {name: cursor for name, cursor in self.cursors.items() if name in replicas}
        told: list[Sample] = []
        num_lost = self.num_lost
        for page in pages:
            cursor = cursors.get(page.replica)
            until = page.read_at - page.watermark_seconds
            if cursor is not None and cursor.instance != page.instance and cursor.next > 0:
                # The process was started anew and counts from 1: what stands before the place that
                # was asked for is read the next time.
                cursors[page.replica] = Cursor(page.instance, 0, cursor.until)
                continue
            samples = self._samples(page)
            num_lost += page.dropped + sum(sample is None for sample in samples)
            told += [sample for sample in samples if sample is not None]
            cursors[page.replica] = Cursor(page.instance, page.next, until)
        until = self._complete_until(cursors, replicas, now)
        waiting = sorted((*self.held, *told), key=lambda sample: sample.time_seconds)
        ready = [sample for sample in waiting if sample.time_seconds <= until]
        room = self.capacity - len(self.samples)
        return SampleMerger(
            cursors=cursors,
            samples=(*self.samples, *ready[:room]),
            held=tuple(waiting[len(ready) :]),
            until=until,
            num_lost=num_lost + len(ready[room:]),
            capacity=self.capacity,
        )

    def _samples(self, page: Page) -> list[Sample | None]:
        """What the page tells of the time of the rollout; None stands for what cannot be read."""
        return [
            _sample(entry, page.arm, time_seconds=max(time, self.until))
            for entry in page.samples
            if (time := page.read_at - _age(entry)) >= 0
        ]

    def _complete_until(
        self, cursors: Mapping[str, Cursor], replicas: Collection[str], now: float
    ) -> float:
        known = (cursors[name].until for name in replicas if name in cursors)
        return max(self.until, min(max(now - LONGEST_HOLD_S, time) for time in (now, *known)))


def _age(entry: Mapping[str, Any]) -> float:
    try:
        return finite_number(entry.get("ageSeconds"))
    except (TypeError, ValueError):
        # Of a request of unknown age nobody knows whether it belongs to the rollout.
        return float("inf")


def _sample(entry: Mapping[str, Any], arm: Arm, *, time_seconds: float) -> Sample | None:
    fields = {name: value for name, value in entry.items() if name not in _PLACE}
    try:
        return Sample.model_validate({**fields, "arm": arm, "timeSeconds": time_seconds})
    except ValidationError:
        return None
