"""What part of the requests each revision really got, by the replicas' own counters.

No controller of a Gateway tells: Argo's plugin says "verified" to any weight. Pure records.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tunesmith_engine.deployment.observations import Route


@dataclass(frozen=True, slots=True)
class Counter:
    """A replica's counter of requests: whose, and of which process."""

    revision: str
    instance: str
    accepted: int


@dataclass(frozen=True, slots=True)
class SplitMeter:
    """The requests that each revision got since a route came into use.

    What a replica took between its last reading and its end is not counted.
    """

    route: Route | None = None
    since: datetime | None = None
    last: Mapping[str, Counter] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)

    def read(
        self, route: Route | None, counters: Mapping[str, Counter], *, now: datetime
    ) -> "SplitMeter":
        """The meter after another reading, under the route that is in use now."""
        if route is None:
            return self
        if route != self.route:
            return SplitMeter(route=route, since=now, last=dict(counters))
        taken = dict(self.taken)
        for name, counter in counters.items():
            before = self.last.get(name)
            # A process that was started anew counts from 0, and so does one that is new.
            is_same = before is not None and before.instance == counter.instance
            start = before.accepted if before is not None and is_same else 0
            grown = max(0, counter.accepted - start)
            taken[counter.revision] = taken.get(counter.revision, 0) + grown
        return SplitMeter(route, self.since, {**self.last, **counters}, taken)

    def achieved(self) -> dict[str, float]:
        """Percent of each revision that has a weight; empty without requests."""
        weighted = self.route.weights if self.route is not None else {}
        # A mirror's copies are nobody's requests.
        taken = {revision: self.taken.get(revision, 0) for revision in _weighted(weighted)}
        total = sum(taken.values())
        return {name: 100 * count / total for name, count in taken.items()} if total else {}


def _weighted(weights: Mapping[str, int]) -> Iterable[str]:
    return (revision for revision, weight in weights.items() if weight)
