"""What `advance` reads and what it decides.

An executor, on a laptop or in a cluster, fills in `Observations`, stores the `Decision`'s status,
and then makes everything as `desired` says. It decides nothing itself. `desired` is the whole
wanted state, never a difference: an executor that was killed in between does the same again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tunesmith_api.modeldeployment.monitoring_status import (
    CostStatus,
    Retraining,
    SloStatus,
    TrafficStatus,
)
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.replica_report import ProbeEvidence
from tunesmith_engine.rollout.judge import Verdict


@dataclass(frozen=True, slots=True)
class AvailableVersion:
    """A `ModelVersion` of the model, as it was read.

    `num_bytes` are those of all of its files. `problem` says in words for people why it cannot be
    served, such as a record that nobody can read; None if it can. Only versions that passed their
    gates are published, so a version without a problem has passed them.
    """

    version: str
    digest: str
    uri: str
    created: datetime
    num_bytes: int
    claim_name: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica as its executor sees it now.

    `is_ready` means that it generates correctly, by its own word. `is_reachable` is False where its
    state could not be read: what it told last is then not repeated, and the rest is None. `running`
    are requests under way, `quiet_seconds` the time since the last one arrived. `failure` is a
    CamelCase reason that no waiting will mend (crashes again and again, wrong digest, an image that
    cannot be pulled), `message` what a person should know of it or of what it waits for.
    `restarts` counts how often its engine was started again. `is_stopping`: it was told to end.
    `probe` is what its own questions to the engine have shown.
    """

    name: str
    revision: str
    is_ready: bool = False
    is_reachable: bool = False
    running: int | None = None
    accepted: int | None = None
    quiet_seconds: float | None = None
    restarts: int = 0
    failure: str | None = None
    message: str = ""
    is_stopping: bool = False
    probe: ProbeEvidence | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What of the traffic goes where: percent by revision, which add up to 100 or are empty.

    `mirror` gets copies of `mirror_percent` of the requests.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    mirror: str | None = None
    mirror_percent: int = 0


@dataclass(frozen=True, slots=True)
class RouteState:
    """The route as the proxy says it is in use.

    `in_use` is None while the proxy has not confirmed any, and an empty `Route` once it routes
    nothing any more: only then is it known that a revision gets no more requests. `achieved` is the
    percent that each revision really got since `since`, when this route came into use; empty
    without traffic. `failure` is a CamelCase reason why the proxy refuses the route (NoGateway,
    RouteNotAccepted, OwnedByAnother, ProxyDown), `message` what to do. `endpoint` is the base URL
    for clients.
    """

    in_use: Route | None = None
    since: datetime | None = None
    achieved: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    message: str = ""
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asked for. It names a version, so that it never hits the next one.

    `pause` has no version and lasts as long as it is given.
    """

    verb: Literal["pause", "promote", "abort"]
    version: str | None = None


@dataclass(frozen=True, slots=True)
class RetrainNews:
    """What came of a job that was to be made: it is there, or why it could not be made yet."""

    job: str
    is_created: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Monitored:
    """What watching has shown so far: traffic of the stable version, promises and cost of all.

    `traffic` is None until a replica has told of any.
    """

    traffic: TrafficStatus | None = None
    slos: tuple[SloStatus, ...] = ()
    cost: CostStatus | None = None


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything seen at one moment.

    `can_split` and `can_mirror` say what the proxy is able to do; `cannot_split` why not, and what
    to do. `cannot_stick` says why a split cannot keep a conversation with one version; empty where
    it can. `verdict` is the judge's on the present candidate, None before its first window.
    `versions_known` is False while the versions could not be read: nothing is then concluded from
    one that is missing. `monitored` is None before the first reading. `retrain_news` are of the job
    that is being made; `cannot_retrain` says why none can be, where that is so.
    """

    versions: tuple[AvailableVersion, ...] = ()
    versions_known: bool = True
    replicas: tuple[ReplicaState, ...] = ()
    route: RouteState = RouteState()
    can_split: bool = True
    can_mirror: bool = True
    cannot_split: str = ""
    cannot_stick: str = ""
    verdict: Verdict | None = None
    command: Command | None = None
    monitored: Monitored | None = None
    retrain_news: RetrainNews | None = None
    cannot_retrain: str = ""


@dataclass(frozen=True, slots=True)
class DesiredRevision:
    """A revision that has to be there, with so many replicas; 0 while it is stopped.

    `is_draining`: it gets no new requests and must not be restarted when its replicas end.
    `compared_with` is the revision whose answers its replicas score; it may be gone.
    """

    revision: str
    version: str
    digest: str
    uri: str
    replicas: int
    claim_name: str | None = None
    is_draining: bool = False
    compared_with: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """All that has to be there. Revisions that are not named have to go."""

    revisions: tuple[DesiredRevision, ...] = ()
    route: Route = Route()


@dataclass(frozen=True, slots=True)
class Decision:
    """The next status, what has to be there, and when to look again at the latest.

    `wants_samples`: the replicas are to be asked for samples until the next look, for the judge;
    `recording` names the rollout that they belong to, REVISION of the candidate. `retrain` is the
    job that has to be made, until `RetrainNews` say that it is there.
    """

    status: ModelDeploymentStatus
    desired: Desired
    wake_at: datetime | None = None
    recording: str | None = None
    retrain: Retraining | None = None

    @property
    def wants_samples(self) -> bool:
        return self.recording is not None
