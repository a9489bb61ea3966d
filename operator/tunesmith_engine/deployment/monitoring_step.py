"""The next `status.monitoring`: what is seen, written no more often than it means something new.

Numbers move with every request; they are written once a minute, or when something flips. What moves
without any request is written every ten minutes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tunesmith_api.modeldeployment.monitoring_status import (
    MAX_SUITES,
    ArtifactStatus,
    BiasStatus,
    MonitoringStatus,
    TrafficStatus,
)
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus, RevisionStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.deployment.deployment_state import Context
from tunesmith_engine.deployment.observations import ReplicaState
from tunesmith_engine.deployment.replica_report import BiasEvidence, ProbeEvidence
from tunesmith_engine.deployment.retraining import next_retrainings

REFRESH_SECONDS: Final = 60.0
_IDLE_SECONDS: Final = 600.0


def next_monitoring(context: Context, before: ModelDeploymentStatus) -> MonitoringStatus | None:
    """What is to be stored; None where nothing is watched."""
    stored, stable = before.monitoring, before.stable
    if not context.spec.monitoring.enabled:
        return None
    if stable is None:
        return stored
    after = _seen(context, stored or MonitoringStatus(), stable)
    after = next_retrainings(context, after, stable=stable, candidate=before.candidate)
    if stored is not None and _meaning(stored) == _meaning(after):
        is_idle = _without_idle(stored) == _without_idle(after)
        refresh_s = _IDLE_SECONDS if is_idle else REFRESH_SECONDS
        is_same = after.model_copy(update={"time": stored.time}) == stored
        # Either way: a clock that was set back must not keep it from being written.
        age_s = abs((context.now - (stored.time or context.now)).total_seconds())
        if is_same or age_s < refresh_s:
            return stored
    return after.model_copy(update={"time": context.now})


def _without_idle(status: MonitoringStatus) -> MonitoringStatus:
    """The status without what moves while nobody asks anything."""
    artifact, cost = status.artifact, status.cost
    update: dict[str, object] = {
        "time": None,
        "artifact": artifact and artifact.model_copy(update={"probes": 0, "at": None}),
        "cost": cost and cost.model_copy(update={"accelerator_hours": 0.0}),
    }
    return status.model_copy(update=update)


def _seen(context: Context, stored: MonitoringStatus, stable: RevisionStatus) -> MonitoringStatus:
    update: dict[str, object] = {"artifact": _artifact(context, stored.artifact, stable)}
    monitored = context.seen.monitored
    if monitored is not None:
        update["slos"] = list(monitored.slos)
        update["cost"] = monitored.cost
        traffic = monitored.traffic
        # Of another version until the replicas are read again.
        if traffic is None or traffic.version == stable.version:
            update["traffic"] = _traffic(traffic, stored.traffic, now=context.now)
    return stored.model_copy(update=update)


def _traffic(
    seen: TrafficStatus | None, stored: TrafficStatus | None, *, now: datetime
) -> TrafficStatus | None:
    if seen is None or not seen.drifted:
        return seen
    is_known = stored is not None and stored.version == seen.version
    since = stored.drifted_since if stored is not None and is_known else None
    return seen.model_copy(update={"drifted_since": since or now})


def _artifact(
    context: Context, stored: ArtifactStatus | None, stable: RevisionStatus
) -> ArtifactStatus:
    """The fingerprints of stable's replicas, the worst of them by name."""
    replicas = context.replicas_of(stable.revision)
    wrong = [replica for replica in replicas if is_wrong(replica)]
    asked = [replica.probe for replica in replicas if replica.probe is not None]
    worst = max(wrong or replicas, key=_worst_nats, default=None)
    probe = worst.probe if worst is not None else None
    is_known = stored is not None and stored.version == stable.version
    since = stored.since if stored is not None and is_known and stored.mismatch else None
    return ArtifactStatus(
        version=stable.version,
        mismatch=bool(wrong),
        since=(since or context.now) if wrong else None,
        replica=worst.name if worst is not None and wrong else None,
        mismatched_replicas=len(wrong),
        worst_nats=None if probe is None else round(probe.worst_nats, 4),
        mean_nats=None if probe is None else round(probe.mean_nats, 4),
        loss_nats=None if probe is None else probe.loss_nats,
        probes=sum(each.probes for each in asked),
        bias=_bias(asked),
        at=context.ago(min(each.age_seconds for each in asked)) if asked else None,
        message=truncate_message(worst.message) if worst is not None and wrong else "",
    )


def _bias(asked: Sequence[ProbeEvidence]) -> list[BiasStatus]:
    """Of each suite the replica that says the worst."""
    worst: dict[str, BiasEvidence] = {}
    for one in (one for probe in asked for one in probe.bias):
        if one.suite not in worst or one.low_nats > worst[one.suite].low_nats:
            worst[one.suite] = one
    return [
        BiasStatus(**one.model_dump(), grown=one.has_grown) for _, one in sorted(worst.items())
    ][:MAX_SUITES]


def is_wrong(replica: ReplicaState) -> bool:
    """Whether the replica says that its engine does not answer as the version did."""
    return replica.failure == Reason.FINGERPRINT_MISMATCH


def _worst_nats(replica: ReplicaState) -> float:
    return replica.probe.worst_nats if replica.probe is not None else -1.0


def _meaning(status: MonitoringStatus) -> tuple[object, ...]:
    """What is written at once when it changes."""
    traffic, artifact, cost = status.traffic, status.artifact, status.cost
    return (
        traffic and (traffic.version, bool(traffic.drifted), traffic.reason),
        artifact
        and (
            artifact.version,
            artifact.mismatch,
            artifact.probes > 0,
            [(one.suite, one.grown) for one in artifact.bias],
        ),
        [(slo.name, slo.objective, slo.burning) for slo in status.slos],
        cost and cost.message,
        status.retrainings,
    )
