"""What stable runs and gets: everything that no candidate has, and nothing while suspended."""

from dataclasses import replace

from tunesmith_api.modeldeployment.status import RevisionStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.deployment_state import ALL, Context, DeploymentState
from tunesmith_engine.deployment.draining import cancel_drain, start_drain
from tunesmith_engine.deployment.take_back import leave


def keep_stable(context: Context, state: DeploymentState) -> DeploymentState:
    """The state with stable's replicas and weight as they have to be now."""
    stable = state.stable
    if stable is None:
        return state
    if _has_to_stop(context, state):
        return _stopped(context, state, stable, reason=Reason.SUPERSEDED)
    candidate_weight = state.candidate.weight if state.candidate else 0
    is_stopped_for_candidate = stable.replicas == 0 and _is_recreated(state)
    if is_stopped_for_candidate:
        return state
    state, _ = cancel_drain(state, stable.revision)
    # One that comes back gets requests when it can answer them, and keeps them from then on.
    is_routed = stable.weight > 0 or candidate_weight > 0 or stable.ready_replicas > 0
    weight = ALL - candidate_weight if is_routed else 0
    update: dict[str, object] = {"replicas": context.spec.replicas, "weight": weight}
    if weight != stable.weight:
        update["achieved_weight"] = None
    return replace(state, stable=stable.model_copy(update=update))


def suspend(context: Context, state: DeploymentState) -> DeploymentState:
    """The state in which everything drains. Stable is remembered, a candidate is not."""
    state = leave(context, state, reason=Reason.SUSPENDED)
    if state.stable is None or state.stable.replicas == 0:
        return state
    return _stopped(context, state, state.stable, reason=Reason.SUSPENDED)


def _stopped(
    context: Context, state: DeploymentState, stable: RevisionStatus, *, reason: str
) -> DeploymentState:
    update = {"replicas": 0, "weight": 0, "achieved_weight": None}
    state = replace(state, stable=stable.model_copy(update=update))
    return start_drain(context, state, stable, reason=reason)


def _is_recreated(state: DeploymentState) -> bool:
    candidate = state.candidate
    return (
        candidate is not None
        and candidate.strategy == "recreate"
        and candidate.state != "RollingBack"
    )


def _has_to_stop(context: Context, state: DeploymentState) -> bool:
    """Whether stable makes room for the candidate."""
    is_starting = state.candidate is not None and state.candidate.state == "Starting"
    is_running = state.stable is not None and state.stable.replicas > 0
    return is_starting and is_running and _is_recreated(state) and not context.is_paused
