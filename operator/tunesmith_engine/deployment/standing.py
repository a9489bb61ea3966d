"""Where a deployment stands: one word, one reason and one message, for people and for tools."""

from dataclasses import dataclass

from tunesmith_api.modeldeployment.status import CandidateStatus, DeploymentPhase, RevisionStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.choose import Choice
from tunesmith_engine.deployment.deployment_state import ALL, Context, DeploymentState, Refusal
from tunesmith_engine.deployment.rollout_step import is_held, is_stable_stopped


@dataclass(frozen=True, slots=True)
class Standing:
    """`is_stalled`: nothing more happens by itself. `is_at_rest`: nothing more has to."""

    phase: DeploymentPhase
    reason: str
    message: str
    is_stalled: bool = False
    is_at_rest: bool = False


def standing(
    context: Context, state: DeploymentState, choice: Choice, *, verdict_message: str
) -> Standing:
    """What is said of the whole deployment; the first that applies of what hinders most."""
    phase = _phase(context, state, choice)
    if context.spec.suspend:
        is_over = not state.draining and state.candidate is None
        message = "spec.suspend: false brings it back" if is_over else "running requests end"
        return Standing(phase, Reason.SUSPENDED, message, is_at_rest=is_over)
    hindrance = _hindrance(context, state, choice, verdict_message)
    if hindrance is not None:
        return Standing(phase, hindrance.reason, hindrance.message, is_stalled=True)
    if state.candidate is not None:
        told = candidate_words(context, state, state.candidate, verdict_message)
        return Standing(phase, told.reason, told.message)
    if state.stable is not None:
        return _of_stable(context, state, state.stable, phase)
    message = f"no version of the model {context.spec.model} has passed its gates yet"
    if not context.seen.versions_known:
        message = f"the versions of the model {context.spec.model} cannot be read"
    return Standing(phase, Reason.PENDING, message)


def _hindrance(
    context: Context, state: DeploymentState, choice: Choice, verdict_message: str
) -> Refusal | None:
    """What no waiting will mend; what hinders most comes first."""
    route = context.seen.route
    if route.failure is not None:
        return Refusal(route.failure, route.message)
    if state.candidate is not None:
        return _why_held(context, state, state.candidate, verdict_message)
    if choice.refusal is not None or state.stable is None:
        return choice.refusal
    for replica in context.replicas_of(state.stable.revision):
        if replica.failure is not None:
            shown = _shown(state.stable)
            told = f"replica {replica.name}: {replica.message or replica.failure}; {shown}"
            return Refusal(replica.failure, told)
    return None


def candidate_words(
    context: Context, state: DeploymentState, candidate: CandidateStatus, verdict_message: str
) -> Refusal:
    """Reason and message of the candidate itself."""
    held = _why_held(context, state, candidate, verdict_message)
    return held or _progress(context, state, candidate, verdict_message)


def _of_stable(
    context: Context, state: DeploymentState, stable: RevisionStatus, phase: DeploymentPhase
) -> Standing:
    shown = _shown(stable)
    if stable.ready_replicas < stable.replicas or not context.is_in_use(state.route):
        is_full = stable.ready_replicas >= stable.replicas
        waits = "the proxy has not taken up the route yet"
        return Standing(phase, Reason.DEPLOYING, f"{shown}{f'; {waits}' if is_full else ''}")
    if state.draining:
        names = ", ".join(drain.version for drain in state.draining)
        return Standing(phase, Reason.DRAINING, f"{shown}; {names} ends its running requests")
    return Standing(phase, Reason.SERVING, shown, is_at_rest=True)


def _why_held(
    context: Context, state: DeploymentState, candidate: CandidateStatus, verdict_message: str
) -> Refusal | None:
    """What keeps the candidate where it is until a person acts."""
    if candidate.state == "RollingBack":
        return None
    # The first version takes over from nobody, whatever the strategy.
    if candidate.state != "Promoting" and state.stable is not None:
        refusal = context.strategy_refusal(candidate.strategy)
        if refusal is not None:
            return refusal
    if is_held(context, candidate) and not context.is_paused:
        message = (
            f"no verdict in time ({verdict_message}); promote or abort it, or publish another "
            "version"
        )
        return Refusal(Reason.ANALYSIS_INCONCLUSIVE, message)
    return None


def _progress(
    context: Context, state: DeploymentState, candidate: CandidateStatus, verdict_message: str
) -> Refusal:
    shown = (
        f"{candidate.version}: {candidate.ready_replicas} of {candidate.replicas} replicas ready"
    )
    if candidate.state == "RollingBack":
        return Refusal(candidate.reason or Reason.ROLLED_BACK, candidate.message)
    if context.is_paused:
        hold = context.hold or Refusal(Reason.PAUSED, "the rollout is paused")
        return Refusal(hold.reason, f"{shown}; {hold.message}, weights stay")
    if candidate.state == "Promoting":
        then = (
            "waits for the proxy to take up the route" if candidate.weight == ALL else "takes over"
        )
        return Refusal(Reason.PROMOTING, f"{shown}; {then}")
    if candidate.state == "Analyzing":
        steps = len(context.spec.rollout.steps)
        percent = candidate.mirror or candidate.weight
        part = "copies" if candidate.mirror else "requests"
        step = f"step {candidate.step + 1} of {steps}, {percent} % of the {part}"
        return Refusal(Reason.ANALYZING, f"{candidate.version}: {step}; {verdict_message}")
    if candidate.replicas == 0 and not is_stable_stopped(state):
        return Refusal(Reason.DEPLOYING, f"{candidate.version} starts when stable has drained")
    waits = {replica.message for replica in context.replicas_of(candidate.revision)} - {""}
    return Refusal(Reason.DEPLOYING, "; ".join((shown, *sorted(waits))))


def _shown(stable: RevisionStatus) -> str:
    return f"{stable.ready_replicas} of {stable.replicas} replicas of {stable.version} are ready"


def _phase(context: Context, state: DeploymentState, choice: Choice) -> DeploymentPhase:
    stable = state.stable
    if context.spec.suspend:
        return DeploymentPhase.SUSPENDED
    if state.candidate is not None:
        return _rollout_phase(context, state, state.candidate)
    if stable is None:
        return DeploymentPhase.FAILED if choice.refusal else DeploymentPhase.PENDING
    if stable.ready_replicas > 0 and stable.weight > 0:
        return DeploymentPhase.SERVING
    has_failed = any(replica.failure for replica in context.replicas_of(stable.revision))
    return DeploymentPhase.FAILED if has_failed else DeploymentPhase.DEPLOYING


def _rollout_phase(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> DeploymentPhase:
    if candidate.state == "RollingBack":
        return DeploymentPhase.ROLLING_BACK
    if context.is_paused:
        return DeploymentPhase.PAUSED
    if state.stable is None:
        return DeploymentPhase.DEPLOYING
    is_promoting = candidate.state == "Promoting"
    return DeploymentPhase.PROMOTING if is_promoting else DeploymentPhase.PROGRESSING
