"""Deployments for which `advance` cannot speak: an unreadable spec, a step that is refused.

What serves goes on serving; only the conditions say that nothing will change.
"""

from datetime import datetime

from tunesmith_api.conditions import ConditionType
from tunesmith_api.modeldeployment.status import DeploymentPhase, ModelDeploymentStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import make_condition, merge_conditions


def reject_spec(
    status: ModelDeploymentStatus | None, *, generation: int, message: str, now: datetime
) -> ModelDeploymentStatus:
    """The status of a deployment whose spec this release cannot read: it stays as it is."""
    status = status or ModelDeploymentStatus()
    update: dict[str, object] = {"observed_generation": generation}
    if status.stable is None:
        update["phase"] = DeploymentPhase.FAILED
    return _told(
        status.model_copy(update=update),
        Reason.INVALID_SPEC,
        is_stalled=True,
        generation=generation,
        message=message,
        now=now,
    )


def report_forbidden(
    status: ModelDeploymentStatus | None, *, generation: int, message: str, now: datetime
) -> ModelDeploymentStatus:
    """The status of a deployment whose next step the API server refuses; it is tried again."""
    # NB: the observed generation stays: the spec of this one has not been acted on.
    return _told(
        status or ModelDeploymentStatus(),
        Reason.FORBIDDEN,
        is_stalled=False,
        generation=generation,
        message=message,
        now=now,
    )


def _told(
    status: ModelDeploymentStatus,
    reason: Reason,
    *,
    is_stalled: bool,
    generation: int,
    message: str,
    now: datetime,
) -> ModelDeploymentStatus:
    is_true = {
        ConditionType.READY: False,
        ConditionType.RECONCILING: not is_stalled,
        ConditionType.STALLED: is_stalled,
    }
    new = [
        make_condition(type_, is_true=is_true[type_], reason=reason, message=message, now=now)
        for type_ in is_true
    ]
    merged = merge_conditions(new, before=status.conditions, generation=generation)
    conditions = {condition.type: condition for condition in (*status.conditions, *merged)}
    return status.model_copy(update={"conditions": list(conditions.values())})
