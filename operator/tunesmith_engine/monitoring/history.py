"""The last hour of a deployment, for charts: one point for each time that somebody looked.

Pure and bounded: `History.after` takes a `Sighting` in, whoever looks keeps the result.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_engine.monitoring.replica_metrics import ReplicaMetrics, added_up, increase
from tunesmith_engine.monitoring.sighting import Sighting, revisions_by_role
from tunesmith_engine.monitoring.view import DeploymentView, Percentiles, traffic_of, view_of

# Between two looks. A replica writes its metrics in the loop that sends tokens, so not often.
LOOK_S: Final = 5.0
# Of rates and percentiles: long enough for some tens of requests, short enough to see a change.
WINDOW_S: Final = 30.0
KEPT_S: Final = 3600.0


class RevisionPoint(ApiModel):
    """A revision at one time; what could not be told is None."""

    version: str
    role: str
    weight: int
    achieved_weight: float | None = None
    requests_per_second: float | None = None
    tokens_per_second: float | None = None
    failed: float | None = Field(None, description="Share of errors and answers that broke off.")
    ttft: Percentiles | None = None
    itl: Percentiles | None = None


class Point(ApiModel):
    """A deployment at one time; `drift` is evidence by signal, as a part of the threshold."""

    seq: int
    time: Annotated[float, Field(description="Seconds since 1970.")]
    revisions: dict[str, RevisionPoint]
    drift: dict[str, float]
    per_million_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class _Interval:
    """What each revision did until `end`, of the monotonic clock."""

    end: float
    seconds: float
    counted: Mapping[str, ReplicaMetrics]


@dataclass(frozen=True, slots=True)
class History:
    """`points` of the last hour, and the counts that the next one is made with."""

    points: tuple[Point, ...] = ()
    view: DeploymentView | None = None
    _last: Mapping[str, ReplicaMetrics] = field(default_factory=dict)
    _last_seconds: float | None = None
    _intervals: tuple[_Interval, ...] = ()

    def after(self, seen: Sighting) -> "History":
        """The history with one more look."""
        intervals = tuple(
            interval
            for interval in (*self._intervals, *self._interval(seen))
            if interval.end > seen.seconds - WINDOW_S
        )
        seconds = sum(interval.seconds for interval in intervals)
        parts = defaultdict[str, list[ReplicaMetrics]](list)
        for interval in intervals:
            for revision, of_it in interval.counted.items():
                parts[revision].append(of_it)
        counted = {revision: added_up(in_turn) for revision, in_turn in parts.items()}
        seq = self.points[-1].seq + 1 if self.points else 1
        since = seen.time.timestamp() - KEPT_S
        points = (*self.points, _point(seen, counted, seq=seq, seconds=seconds))
        return replace(
            self,
            points=tuple(point for point in points if point.time > since),
            view=view_of(seen, counted=counted, seconds=seconds),
            # One that does not answer now goes on from what it said last.
            _last={
                **{r.name: self._last[r.name] for r in seen.replicas if r.name in self._last},
                **seen.metrics,
            },
            _last_seconds=seen.seconds,
            _intervals=intervals,
        )

    def _interval(self, seen: Sighting) -> tuple[_Interval, ...]:
        """What was counted since the look before; nothing at the first."""
        if self._last_seconds is None or seen.seconds <= self._last_seconds:
            return ()
        seconds = seen.seconds - self._last_seconds
        parts = defaultdict[str, list[ReplicaMetrics]](list)
        for replica in seen.replicas:
            before = self._last.get(replica.name)
            if before is None and replica.report and replica.report.uptime_seconds <= seconds:
                before = ReplicaMetrics()
            # Of one that ran before it was first heard, nobody knows when it counted.
            if before is not None and replica.metrics is not None:
                parts[replica.revision].append(increase(before, replica.metrics))
        counted = {revision: added_up(of_each) for revision, of_each in parts.items()}
        return (_Interval(seen.seconds, seconds, counted),)


def _point(
    seen: Sighting, counted: Mapping[str, ReplicaMetrics], *, seq: int, seconds: float
) -> Point:
    watched = seen.status.monitoring
    traffic, cost = (watched.traffic, watched.cost) if watched else (None, None)
    threshold = traffic.threshold_log_e if traffic else None
    drift = traffic.signals if traffic and threshold else []
    return Point(
        seq=seq,
        time=round(seen.time.timestamp(), 1),
        revisions=_revisions(seen, counted, seconds=seconds),
        drift={each.signal: round(max(0.0, each.log_e) / (threshold or 1.0), 3) for each in drift},
        per_million_tokens=cost.per_million_tokens if cost else None,
    )


def _revisions(
    seen: Sighting, counted: Mapping[str, ReplicaMetrics], *, seconds: float
) -> dict[str, RevisionPoint]:
    points = {}
    for role, revision in revisions_by_role(seen.status):
        of_it = counted.get(revision.revision)
        traffic = traffic_of(of_it, seconds=seconds) if of_it else None
        points[revision.revision] = RevisionPoint(
            version=revision.version,
            role=role,
            weight=revision.weight,
            achieved_weight=revision.achieved_weight,
            requests_per_second=traffic.requests_per_second if traffic else None,
            tokens_per_second=traffic.tokens_per_second if traffic else None,
            failed=(traffic.errors or 0.0) + (traffic.incomplete or 0.0)
            if traffic and traffic.errors is not None
            else None,
            ttft=traffic.ttft if traffic else None,
            itl=traffic.itl if traffic else None,
        )
    return points
