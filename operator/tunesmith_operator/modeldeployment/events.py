"""Events of a deployment: each change of its phase, and what monitoring tells of.

They are what `kubectl describe mdep` shows.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from tunesmith_api.conditions import ConditionType
from tunesmith_api.modeldeployment.monitoring import OnDrift
from tunesmith_api.modeldeployment.status import (
    DeploymentCondition,
    DeploymentPhase,
    ModelDeploymentStatus,
)
from tunesmith_operator.kube.events import event_about
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.modeldeployment.deployment_ref import MODEL_DEPLOYMENT

_RETRAINS: Final = "Retrains"
_BAD: Final = frozenset({DeploymentPhase.FAILED, DeploymentPhase.ROLLING_BACK})


def events_of(
    deployment: Manifest,
    before: ModelDeploymentStatus | None,
    after: ModelDeploymentStatus,
    *,
    actions: OnDrift | None,
    now: datetime,
) -> Iterator[Manifest]:
    """The Events of the change from `before` to `after`.

    `actions` say of which drift an Event tells; None where the spec was not read.
    """
    phase = _phase_event(deployment, before, after, now=now)
    if phase is not None:
        yield phase
    stored = before.conditions if before is not None else []
    known = {condition.type: condition.status for condition in stored}
    for condition in after.conditions:
        was_true = known.get(condition.type) == "True"
        is_true = condition.status == "True"
        if condition.type not in _told(actions) or was_true == is_true:
            continue
        yield event_about(
            deployment,
            MODEL_DEPLOYMENT,
            phase=f"{condition.type}={condition.status}",
            reason=condition.reason,
            message=condition.message,
            is_warning=is_true,
            now=now,
        )
    for job in _made(after) - _made(before):
        yield event_about(
            deployment,
            MODEL_DEPLOYMENT,
            phase=job,
            reason=_RETRAINS,
            message=f"FineTuneJob {job} was made, since the traffic has drifted",
            is_warning=False,
            now=now,
        )


def _told(actions: OnDrift | None) -> set[str]:
    """The conditions that Events tell of."""
    told = {str(DeploymentCondition.SLO_BURNING)}
    if actions is not None and "alert" in actions.traffic:
        told.add(DeploymentCondition.DRIFT_DETECTED)
    if actions is not None and "alert" in actions.artifact:
        told |= {DeploymentCondition.ARTIFACT_MISMATCH, DeploymentCondition.BIAS_GROWN}
    return told


def _made(status: ModelDeploymentStatus | None) -> set[str]:
    """The jobs that were made."""
    monitoring = status.monitoring if status is not None else None
    retrainings = monitoring.retrainings if monitoring is not None else []
    return {retraining.job for retraining in retrainings if retraining.state == "Created"}


def _phase_event(
    deployment: Manifest,
    before: ModelDeploymentStatus | None,
    after: ModelDeploymentStatus,
    *,
    now: datetime,
) -> Manifest | None:
    if before is not None and before.phase == after.phase:
        return None
    ready = next(
        condition for condition in after.conditions if condition.type == ConditionType.READY
    )
    is_bad = after.phase in _BAD
    return event_about(
        deployment,
        MODEL_DEPLOYMENT,
        phase=after.phase,
        reason=ready.reason if is_bad else str(after.phase),
        message=ready.message,
        is_warning=is_bad,
        now=now,
    )
