"""The conditions of a deployment: what kubectl, kstatus and Argo CD read.

Ready says that what was asked for serves, whole and alone; Available that requests are answered, by
whichever version; Progressing that a rollout goes on. RolledBack with Stalled says that the version
that was asked for was taken back and that only another version or other settings are tried.
"""

from datetime import datetime

from tunesmith_api.conditions import Condition, ConditionType
from tunesmith_api.modeldeployment.status import DeploymentCondition
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import make_condition
from tunesmith_engine.deployment.choose import Choice
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState, Refusal
from tunesmith_engine.deployment.standing import Standing


def deployment_conditions(
    context: Context, state: DeploymentState, choice: Choice, stands: Standing
) -> list[Condition]:
    """All of them, each at every step: kstatus takes a missing Ready for success."""
    now = context.now
    rollback = _rollback(state, choice)
    available = _available(context, state)
    is_served = state.stable is not None and state.stable.revision == choice.revision
    is_ready = stands.is_at_rest and stands.reason == Reason.SERVING and is_served
    told = Refusal(stands.reason, stands.message)
    return [
        _condition(DeploymentCondition.AVAILABLE, available is not None, available or told, now),
        _condition(DeploymentCondition.PROGRESSING, state.candidate is not None, told, now),
        _condition(DeploymentCondition.ROLLED_BACK, rollback is not None, rollback or told, now),
        _condition(ConditionType.READY, is_ready, told, now),
        _condition(
            ConditionType.RECONCILING, not stands.is_stalled and not stands.is_at_rest, told, now
        ),
        _condition(ConditionType.STALLED, stands.is_stalled, told, now),
    ]


def _condition(type_: str, is_true: bool, told: Refusal, now: datetime) -> Condition:  # noqa: FBT001
    return make_condition(type_, is_true=is_true, reason=told.reason, message=told.message, now=now)


def _rollback(state: DeploymentState, choice: Choice) -> Refusal | None:
    candidate = state.candidate
    if candidate is not None and candidate.state == "RollingBack":
        return Refusal(candidate.reason, candidate.message)
    is_rejected = choice.refusal is not None and choice.refusal.reason == Reason.ROLLED_BACK
    return choice.refusal if is_rejected else None


def _available(context: Context, state: DeploymentState) -> Refusal | None:
    """Who answers now, if anybody does: not whom we want to, but whom the proxy knows."""
    answering = [
        f"{revision.ready_replicas} of {revision.replicas} replicas of {revision.version}"
        for revision in (state.stable, state.candidate)
        if revision is not None
        and revision.ready_replicas > 0
        and context.seen.route.in_use is not None
        and context.seen.route.in_use.weights.get(revision.revision, 0) > 0
    ]
    if not answering or context.seen.route.failure is not None:
        return None
    return Refusal(Reason.SERVING, f"{' and '.join(answering)} answer")
