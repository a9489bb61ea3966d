"""`DeploymentView`: what people are shown of a deployment, in a terminal and on the page alike.

Only what is shown: it is made of a `Sighting` and of what `history.py` counted in the last seconds.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.conditions import Condition, ConditionType
from tunesmith_api.modeldeployment.limits import METRICS
from tunesmith_api.modeldeployment.monitoring_status import (
    ArtifactStatus,
    CostStatus,
    SloStatus,
    TrafficStatus,
)
from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    DeploymentCondition,
    RejectedVersion,
    RevisionStatus,
    VerdictStatus,
)
from tunesmith_engine.monitoring.replica_metrics import (
    Histogram,
    ReplicaMetrics,
    added_up,
    quantile,
)
from tunesmith_engine.monitoring.sighting import ReplicaSighting, Sighting, revisions_by_role

_SHOWN_REJECTED: Final = 3
_ANSWERED: Final = ("complete", "incomplete", "error")
_WARNINGS: Final = (
    ConditionType.STALLED,
    DeploymentCondition.ROLLED_BACK,
    DeploymentCondition.ARTIFACT_MISMATCH,
    DeploymentCondition.BIAS_GROWN,
    DeploymentCondition.DRIFT_DETECTED,
    DeploymentCondition.SLO_BURNING,
)


class Percentiles(ApiModel):
    """Of a time in seconds."""

    p50: float
    p95: float
    p99: float


class TrafficView(ApiModel):
    """The requests of the last seconds; rates are by second, shares of those that were answered.

    `rejected` were the client's fault, `cancelled` were given up by it.
    """

    requests_per_second: float
    tokens_per_second: float
    errors: float | None = Field(None, description="Share answered with an error.")
    incomplete: float | None = Field(None, description="Share whose answer broke off.")
    rejected_per_second: float = 0.0
    cancelled_per_second: float = 0.0
    ttft: Percentiles | None = None
    itl: Percentiles | None = None


class ReplicaView(ApiModel):
    """One replica; `state` is Ready, a reason of its own, or NoAnswer."""

    name: str
    version: str
    state: str
    message: str = ""
    running: int | None = None
    restarts: int = 0


class RevisionView(ApiModel):
    """A version with its settings, in its role; `traffic` is None where nothing was counted."""

    role: str
    version: str
    revision: str
    weight: int
    mirror: int = 0
    achieved_weight: float | None = None
    replicas: int
    ready_replicas: int
    since: datetime
    traffic: TrafficView | None = None


class Warned(ApiModel):
    """Conditions that ask somebody to look; `message` is empty where the headline says it."""

    types: list[str]
    message: str = ""


class Missing(ApiModel):
    """Why something is not there, and what to do; empty where it is."""

    traffic: str = ""
    verdict: str = ""
    drift: str = ""
    artifact: str = ""
    slos: str = ""
    cost: str = ""


class DeploymentView(ApiModel):
    """All of it. `window_seconds` is the stretch that rates and percentiles are of."""

    name: str
    model: str
    time: datetime
    served: bool
    phase: str
    reason: str = ""
    message: str = ""
    endpoint: str | None = None
    window_seconds: float
    warnings: list[Warned]
    conditions: list[Condition]
    revisions: list[RevisionView]
    total: TrafficView | None = None
    replicas: list[ReplicaView]
    verdict: VerdictStatus | None = None
    compared: dict[str, str] = Field(
        default_factory=dict, description="How the effects of the verdict's metrics are measured."
    )
    rejected: list[RejectedVersion]
    traffic_drift: TrafficStatus | None = None
    artifact: ArtifactStatus | None = None
    slos: Annotated[list[SloStatus], Field(max_length=8)] = Field(default_factory=list)
    cost: CostStatus | None = None
    missing: Missing
    more: str = ""

    @property
    def is_available(self) -> bool:
        """Whether requests are answered, by whichever version."""
        return self.served and any(
            c.type == DeploymentCondition.AVAILABLE and c.status == "True" for c in self.conditions
        )


def view_of(
    seen: Sighting, *, counted: Mapping[str, ReplicaMetrics], seconds: float
) -> DeploymentView:
    """The view; `counted` is what each revision did in the last `seconds`."""
    status = seen.status
    watched = status.monitoring
    ready = next((c for c in status.conditions if c.type == ConditionType.READY), None)
    return DeploymentView(
        name=seen.name,
        model=seen.spec.model,
        time=seen.time,
        served=seen.is_served,
        phase=status.phase,
        reason=ready.reason if ready else "",
        message=ready.message if ready else "",
        endpoint=status.endpoint,
        window_seconds=round(seconds, 1),
        warnings=_warnings(status.conditions, headline=ready.message if ready else ""),
        conditions=list(status.conditions),
        revisions=[
            _revision(role, revision, counted.get(revision.revision), seconds=seconds)
            for role, revision in revisions_by_role(status)
        ],
        total=_total(counted, seconds=seconds),
        replicas=list(_replicas(seen)),
        verdict=status.last_verdict,
        compared={kind: METRICS[kind].compared for kind in METRICS} if status.last_verdict else {},
        rejected=list(status.rejected[-_SHOWN_REJECTED:]),
        traffic_drift=watched.traffic if watched else None,
        artifact=watched.artifact if watched else None,
        slos=list(watched.slos) if watched else [],
        cost=watched.cost if watched else None,
        missing=_missing(seen, is_counted=bool(counted)),
        more=seen.more,
    )


def traffic_of(counted: ReplicaMetrics, *, seconds: float) -> TrafficView:
    """Rates, shares and percentiles of what was counted in `seconds`."""
    outcomes = counted.outcomes
    answered = sum(outcomes.get(outcome, 0.0) for outcome in _ANSWERED)

    def share(outcome: str) -> float | None:
        return outcomes.get(outcome, 0.0) / answered if answered else None

    return TrafficView(
        requests_per_second=_rounded(counted.num_requests / seconds),
        tokens_per_second=_rounded(counted.tokens / seconds),
        errors=share("error"),
        incomplete=share("incomplete"),
        rejected_per_second=_rounded(outcomes.get("rejected", 0.0) / seconds),
        cancelled_per_second=_rounded(outcomes.get("cancelled", 0.0) / seconds),
        ttft=_percentiles(counted.ttft),
        itl=_percentiles(counted.itl),
    )


def _warnings(conditions: Iterable[Condition], *, headline: str) -> list[Warned]:
    """Those that are true, one for each thing that they say."""
    types: dict[str, list[str]] = {}
    for condition in conditions:
        if condition.type in _WARNINGS and condition.status == "True":
            types.setdefault(condition.message, []).append(condition.type)
    return [
        Warned(types=named, message="" if said == headline else said)
        for said, named in types.items()
    ]


def _total(counted: Mapping[str, ReplicaMetrics], *, seconds: float) -> TrafficView | None:
    return traffic_of(added_up(counted.values()), seconds=seconds) if counted else None


def _percentiles(histogram: Histogram) -> Percentiles | None:
    p50, p95, p99 = (quantile(histogram, part) for part in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return Percentiles(p50=_rounded(p50), p95=_rounded(p95), p99=_rounded(p99))


def _revision(
    role: str, revision: RevisionStatus, counted: ReplicaMetrics | None, *, seconds: float
) -> RevisionView:
    return RevisionView(
        role=role,
        version=revision.version,
        revision=revision.revision,
        weight=revision.weight,
        mirror=revision.mirror if isinstance(revision, CandidateStatus) else 0,
        achieved_weight=revision.achieved_weight,
        replicas=revision.replicas,
        ready_replicas=revision.ready_replicas,
        since=revision.since,
        traffic=None if counted is None else traffic_of(counted, seconds=seconds),
    )


def _replicas(seen: Sighting) -> Iterator[ReplicaView]:
    versions = {
        revision.revision: revision.version for _, revision in revisions_by_role(seen.status)
    }
    for replica in sorted(seen.replicas, key=lambda each: each.name):
        report = replica.report
        yield ReplicaView(
            name=replica.name,
            version=versions.get(replica.revision, replica.revision),
            state=_state(replica),
            message=report.message if report and not report.ready else replica.message,
            running=report.running if report else None,
            restarts=replica.restarts,
        )


def _state(replica: ReplicaSighting) -> str:
    report = replica.report
    if report is None:
        return "NoAnswer"
    return "Ready" if report.ready else report.reason


def _missing(seen: Sighting, *, is_counted: bool) -> Missing:
    spec, status = seen.spec, seen.status
    watched = status.monitoring
    off = "" if spec.monitoring.enabled else "spec.monitoring.enabled is false"
    soon = off or "nothing yet; it is told about a minute after a version serves"
    traffic = watched.traffic if watched else None
    cost = watched.cost if watched else None
    promises = "nothing is promised; spec.slo says what clients may expect"
    return Missing(
        traffic="" if is_counted else seen.unread or _no_traffic(seen),
        verdict="" if status.last_verdict else "no rollout was judged yet",
        drift=soon if traffic is None else _no_drift(traffic),
        artifact="" if watched and watched.artifact else soon,
        slos="" if watched and watched.slos else promises if spec.slo is None else soon,
        cost=soon if cost is None else cost.message,
    )


def _no_traffic(seen: Sighting) -> str:
    if not seen.is_served:
        return "nothing serves it now; tunesmith deploy does"
    if not any(replica.report for replica in seen.replicas):
        return "no replica answers yet"
    return "two readings are needed, a few seconds apart"


def _no_drift(traffic: TrafficStatus) -> str:
    """What the detector lacks, in words; it names it by a reason."""
    version = traffic.version
    said = {
        "NoReference": f"no reference: version {version} was published without the statistics of "
        "its training data; one that is published now brings them",
        "ReferenceOfAnotherVersion": f"the reference beside version {version} is another "
        "version's; publish it again",
        "NoTraffic": "no requests yet",
    }
    return said.get(traffic.reason, traffic.reason)


def _rounded(value: float) -> float:
    # Four digits are what anybody reads, and keep the page's answers short.
    return float(f"{value:.4g}")
