"""One Event for each change of a deployment's phase: what `kubectl describe mdep` shows."""

from datetime import datetime
from typing import Final

from tunesmith_api.conditions import ConditionType
from tunesmith_api.modeldeployment.status import DeploymentPhase, ModelDeploymentStatus
from tunesmith_operator.kube.events import event_about
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.modeldeployment.deployment_ref import MODEL_DEPLOYMENT

_BAD: Final = frozenset({DeploymentPhase.FAILED, DeploymentPhase.ROLLING_BACK})


def event_of(
    deployment: Manifest,
    before: ModelDeploymentStatus | None,
    after: ModelDeploymentStatus,
    *,
    now: datetime,
) -> Manifest | None:
    """The Event of the change from `before` to `after`; None if the phase is the same."""
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
