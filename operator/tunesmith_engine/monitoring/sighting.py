"""What is seen of a deployment at one moment, on a laptop or in a cluster, by whoever watches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus, RevisionStatus
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.monitoring.replica_metrics import ReplicaMetrics


@dataclass(frozen=True, slots=True)
class ReplicaSighting:
    """One replica; `report` and `metrics` are None where it did not answer.

    `restarts` is how often its engine was started again, `message` what is known without its word.
    """

    name: str
    revision: str
    report: ReplicaReport | None = None
    metrics: ReplicaMetrics | None = None
    restarts: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Everything seen at once.

    `seconds` is of a monotonic clock. `is_served`: somebody keeps the deployment as it has to be.
    `unread` says why replicas could not be asked, empty if they could; `more` says where else
    there is something to see, such as a dashboard.
    """

    name: str
    time: datetime
    seconds: float
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    replicas: tuple[ReplicaSighting, ...] = ()
    is_served: bool = True
    unread: str = ""
    more: str = ""
    metrics: Mapping[str, ReplicaMetrics] = field(init=False)

    def __post_init__(self) -> None:
        read = {seen.name: seen.metrics for seen in self.replicas if seen.metrics is not None}
        object.__setattr__(self, "metrics", read)


def revisions_by_role(status: ModelDeploymentStatus) -> list[tuple[str, RevisionStatus]]:
    """Stable, candidate, and those that drain."""
    named = [("stable", status.stable), ("candidate", status.candidate)]
    named += [("draining", revision) for revision in status.draining]
    return [(role, revision) for role, revision in named if revision is not None]
