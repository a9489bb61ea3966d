"""`ModelDeployment.status`: who serves, who might, who has been refused, and why."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.conditions import MAX_REASON, Condition, Message, Name
from tunesmith_api.field_types import CamelCase, VersionLabel
from tunesmith_api.modeldeployment.monitoring_status import MonitoringStatus
from tunesmith_api.modeldeployment.rollout import Strategy
from tunesmith_api.results import Address

# One version with one set of engine settings; a digest's first characters.
RevisionName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$", max_length=8)]
ReasonWord = Annotated[str, StringConstraints(max_length=MAX_REASON)]
Weight = Annotated[int, Field(ge=0, le=100)]

MAX_DRAINING: Final = 16
MAX_REJECTED: Final = 100


class DeploymentPhase(StrEnum):
    """The one word for people."""

    PENDING = "Pending"
    DEPLOYING = "Deploying"
    SERVING = "Serving"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"
    SUSPENDED = "Suspended"
    FAILED = "Failed"


class DeploymentCondition(StrEnum):
    """The conditions beside those of every kind."""

    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    ROLLED_BACK = "RolledBack"
    # Of monitoring; each is there only where it is watched.
    DRIFT_DETECTED = "DriftDetected"
    ARTIFACT_MISMATCH = "ArtifactMismatch"
    BIAS_GROWN = "BiasGrown"
    SLO_BURNING = "SLOBurning"


class BaseStatus(ApiModel):
    """The base that an adapter runs on; `revision` names its replicas, which others may share."""

    revision: RevisionName
    digest: Name
    uri: Address


class RevisionStatus(ApiModel):
    """A version as it is served: with which settings, by how many replicas, since when.

    `digest`, `uri` and `claim_name` are those of the version when it was taken up: replicas are
    made of them even if the record is deleted later. So is `base`, where the version is served as
    an adapter, and `compared_with`, the revision that its
    replicas ask, too, to compare answers: replicas are not restarted for being promoted.
    """

    revision: RevisionName
    version: VersionLabel
    digest: Name
    uri: Address
    claim_name: Name | None = None
    base: BaseStatus | None = None
    compared_with: RevisionName | None = None
    replicas: int = 0
    ready_replicas: int = 0
    weight: Weight = Field(0, description="Percent of the requests that the route gives it.")
    achieved_weight: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="Percent that it really got since the route changed last."
    )
    since: datetime


class CandidateStatus(RevisionStatus):
    """The revision that is on trial.

    `state`: its replicas start; it is judged; it is taken over; it is taken back. `step` counts
    from 0; `step_since` is when the route of the step was seen to be in use. `waiting_since` is set
    while replicas that were added have not all been ready, `unready_since` while it has lost some.
    """

    strategy: Strategy
    state: Literal["Starting", "Analyzing", "Promoting", "RollingBack"] = "Starting"
    mirror: Weight = Field(0, description="Percent of the requests of which it gets copies.")
    step: Annotated[int, Field(ge=0)] = 0
    step_since: datetime | None = None
    analysis_since: datetime | None = None
    waiting_since: datetime | None = None
    unready_since: datetime | None = None
    reason: ReasonWord = ""
    message: Message = ""


class DrainingStatus(RevisionStatus):
    """A revision that gets no more requests, and goes when its running ones are answered.

    `quiet_since` is when the route was seen without it, from which `deadline` counts; `reason` why
    it goes.
    """

    quiet_since: datetime | None = None
    deadline: datetime
    reason: ReasonWord = ""


class MetricEvidence(ApiModel):
    """One metric of the last verdict: effect, its interval, and evidence for and against."""

    metric: Name
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    harm: float = Field(description="E-value against `no worse`; 1/alpha rolls back.")
    promotion: float = Field(description="E-value against `worse by the minimum effect`.")
    stable: int = Field(description="Requests of the stable version behind it.")
    candidate: int


class QueryStatus(ApiModel):
    """The last reading of one query of `rollout.analysis`, and what it says of the candidate."""

    query: Name
    state: Literal["good", "bad", "open"] = Field(
        description="bad: rolls back. good: lets promote. open: neither yet."
    )
    stable: float | None = None
    candidate: float | None = None
    problem: ReasonWord | None = Field(None, description="Why a number is missing.")


class VerdictStatus(ApiModel):
    """What the judge said last, and of which candidate."""

    version: VersionLabel
    revision: RevisionName
    decision: Literal["promote", "rollback", "inconclusive"]
    cause: CamelCase
    is_final: bool = False
    metric: Name | None = None
    more_requests: int | None = Field(
        None, description="Requests that would settle it, as far as can be told."
    )
    message: Message = ""
    time: datetime
    evidence: Annotated[list[MetricEvidence], Field(max_length=16)] = Field(default_factory=list)
    queries: Annotated[list[QueryStatus], Field(max_length=8)] = Field(default_factory=list)


class RejectedVersion(ApiModel):
    """A revision that was taken back or refused; it is not tried again."""

    version: VersionLabel
    revision: RevisionName
    reason: ReasonWord
    message: Message = ""
    time: datetime


class ModelDeploymentStatus(ApiModel):
    """Everything observed about a deployment. Only the engine writes it."""

    observed_generation: int = 0
    phase: CamelCase = DeploymentPhase.PENDING
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    stable: RevisionStatus | None = None
    candidate: CandidateStatus | None = None
    draining: Annotated[list[DrainingStatus], Field(max_length=MAX_DRAINING)] = Field(
        default_factory=list
    )
    rejected: Annotated[list[RejectedVersion], Field(max_length=MAX_REJECTED)] = Field(
        default_factory=list
    )
    last_verdict: VerdictStatus | None = None
    monitoring: MonitoringStatus | None = None
    replicas: int = 0
    ready_replicas: int = 0
    selector: str = Field("", description="Labels of the pods, for autoscalers.")
    endpoint: Address | None = Field(None, description="Base URL for clients; ends with /v1.")
