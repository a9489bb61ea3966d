"""The candidate's way: its replicas start, it is judged step by step, it takes over.

One transition at each step, and each waits for what the one before has brought about: weights move
only when replicas are ready, and a step begins only when the proxy routes by it.
"""

from dataclasses import replace

from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_api.modeldeployment.rollout import RolloutStep
from tunesmith_api.modeldeployment.status import MAX_DRAINING, CandidateStatus, RevisionStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.choose import Choice
from tunesmith_engine.deployment.deployment_state import ALL, Context, DeploymentState
from tunesmith_engine.deployment.draining import cancel_drain, start_drain
from tunesmith_engine.deployment.revisions import replicas_for, taken_up
from tunesmith_engine.deployment.take_back import can_leave, leave, roll_back, why_take_back
from tunesmith_engine.deployment.verdicts import is_past_deadline
from tunesmith_engine.rollout.judge import Decision


def take_up(context: Context, state: DeploymentState, choice: Choice) -> DeploymentState:
    """The state in which the chosen revision is the candidate, and no other is."""
    candidate = state.candidate
    if candidate is not None and candidate.revision != choice.revision:
        if not can_leave(state):
            return state
        state = leave(context, state, reason=Reason.SUPERSEDED)
    # Two places are kept for what a suspension would drain.
    is_full = len(state.draining) >= MAX_DRAINING - 2
    if state.candidate is not None or choice.version is None or choice.revision is None or is_full:
        return state
    compared_with = _compared_with(context, state, choice.revision)
    state, replicas = cancel_drain(state, choice.revision)
    new = CandidateStatus(
        **taken_up(context.spec, choice.version, now=context.now),
        compared_with=compared_with,
        strategy=state.strategy(context),
        replicas=replicas,
    )
    return replace(state, candidate=new)


def _compared_with(context: Context, state: DeploymentState, revision: str) -> str | None:
    """The revision whose answers the candidate's replicas score, where quality is judged."""
    for drain in state.draining:
        # Its replicas run, and asked somebody else, or nobody, from their start on.
        if drain.revision == revision:
            return drain.compared_with
    is_judged = Metric.QUALITY_LOSS in context.spec.rollout.analysis.metrics
    return state.stable.revision if state.stable is not None and is_judged else None


def advance_candidate(context: Context, state: DeploymentState) -> DeploymentState:
    """The state after the candidate's next transition, if one is due."""
    candidate = state.candidate
    if candidate is None:
        return state
    if candidate.state == "RollingBack":
        return _finish_rollback(context, state, candidate)
    candidate = _with_replicas(context, state, _adapted(context, state, candidate))
    state = replace(state, candidate=candidate)
    why = why_take_back(context, state)
    if why is not None:
        return roll_back(context, state, why)
    match candidate.state:
        case "Starting":
            return _start(context, state, candidate)
        case "Analyzing":
            return _analyze(context, state, candidate)
        case _:
            return _promote(context, state, candidate)


def is_stable_stopped(state: DeploymentState) -> bool:
    """Whether nothing of stable runs any more, as `recreate` wants it."""
    stable = state.stable
    return stable is None or (stable.replicas == 0 and not state.is_draining(stable.revision))


def step_of(context: Context, candidate: CandidateStatus) -> RolloutStep:
    """The step that the candidate is at; the last one if the spec has fewer by now."""
    steps = context.spec.rollout.steps
    return steps[min(candidate.step, len(steps) - 1)]


def is_held(context: Context, candidate: CandidateStatus) -> bool:
    """Whether the analysis is over without a verdict, and a person has to decide."""
    return (
        candidate.state == "Analyzing"
        and context.spec.rollout.on_inconclusive == "hold"
        and is_past_deadline(context, candidate)
    )


def _adapted(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> CandidateStatus:
    """The candidate under the strategy of now; another one than before starts over.

    A strategy that the spec leaves open stays what it was: a proxy that cannot split for a moment
    must not turn a canary into a promotion without a verdict.
    """
    wanted = context.spec.rollout.strategy
    if wanted is None or wanted == candidate.strategy or candidate.state == "Promoting":
        return candidate
    if state.is_stable_rejected:
        return candidate
    if context.strategy_refusal(wanted):
        return candidate
    update = {
        "strategy": wanted,
        "state": "Starting",
        "weight": 0,
        "mirror": 0,
        "step": 0,
        "analysis_since": None,
    }
    return candidate.model_copy(update=update)


def _with_replicas(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> CandidateStatus:
    """The candidate with as many replicas as it needs next, and since when they are missing."""
    needed = _needed_replicas(context, state, candidate)
    replicas = min(max(candidate.replicas, needed), _most_replicas(context))
    ready = candidate.ready_replicas
    waiting_since = candidate.waiting_since
    has_requests = candidate.weight > 0 or candidate.mirror > 0
    # Also where it was about to take over and its replicas have died: nobody is sent to none.
    is_waiting = candidate.state == "Starting" or (not has_requests and ready == 0)
    if replicas > candidate.replicas or (is_waiting and waiting_since is None):
        waiting_since = context.now
    if replicas == 0 or ready >= replicas:
        waiting_since = None
    # While replicas are added, those that answer already may not all be lost.
    is_unready = has_requests and ready < (replicas if waiting_since is None else 1)
    return candidate.model_copy(
        update={
            "replicas": replicas,
            "waiting_since": waiting_since,
            "unready_since": (candidate.unready_since or context.now) if is_unready else None,
        }
    )


def _needed_replicas(context: Context, state: DeploymentState, candidate: CandidateStatus) -> int:
    everything = _all_replicas(context, state)
    if candidate.state == "Promoting" or state.stable is None:
        return everything
    if candidate.strategy == "recreate":
        return everything if is_stable_stopped(state) else 0
    if candidate.strategy == "blueGreen":
        return everything
    step = step_of(context, candidate)
    if candidate.state == "Analyzing" and _is_step_over(context, candidate):
        step = step_of(context, candidate.model_copy(update={"step": candidate.step + 1}))
    return replicas_for(step.weight, replicas=everything)


def _all_replicas(context: Context, state: DeploymentState) -> int:
    """As many as take all requests: those that a scaler has given stable, if they are more."""
    replicas = context.spec.replicas
    if context.spec.autoscaling is not None and state.stable is not None:
        # NB: with `spec.replicas` alone, a promotion under load would cut them down to it.
        replicas = max(replicas, len(context.replicas_of(state.stable.revision)))
    return min(replicas, _most_replicas(context))


def _most_replicas(context: Context) -> int:
    scaling = context.spec.autoscaling
    replicas = context.spec.replicas
    return replicas if scaling is None else max(replicas, scaling.max_replicas)


def _start(context: Context, state: DeploymentState, candidate: CandidateStatus) -> DeploymentState:
    if candidate.replicas == 0 or candidate.waiting_since is not None:
        return state
    is_told = context.is_told("promote", candidate.version)
    if context.is_paused and not is_told:
        return state
    if state.stable is None or is_told or candidate.strategy in {"blueGreen", "recreate"}:
        return state.with_candidate(candidate, state="Promoting")
    # Without requests to stable there is nothing to compare with.
    if _is_blocked(context, candidate) or state.stable.weight == 0:
        return state
    return _at_step(context, state, candidate, step=0)


def _analyze(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> DeploymentState:
    is_told = context.is_told("promote", candidate.version)
    is_whole = candidate.waiting_since is None
    if not (is_told and is_whole) and _is_blocked(context, candidate):
        return state
    if not is_told and candidate.step_since is None:
        return _begin_step(context, state, candidate)
    if is_whole and (is_told or (_is_cleared(context, candidate) and not context.is_paused)):
        return state.with_candidate(candidate, state="Promoting")
    if context.is_paused or not is_whole or is_past_deadline(context, candidate):
        return state
    step = candidate.step + _is_step_over(context, candidate)
    is_there = max(candidate.weight, candidate.mirror) == step_of(context, candidate).weight
    if is_there and step == candidate.step:
        return state
    return _at_step(context, state, candidate, step=step if is_there else candidate.step)


def _begin_step(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> DeploymentState:
    """The state in which the step counts, once the proxy routes by it."""
    if not context.is_in_use(state.route):
        return state
    return state.with_candidate(
        candidate,
        step_since=context.now,
        analysis_since=candidate.analysis_since or context.now,
    )


def _is_cleared(context: Context, candidate: CandidateStatus) -> bool:
    """Whether the judge lets it pass, or time is up and the spec says to promote then."""
    verdict = context.seen.verdict
    if verdict is not None and verdict.is_final and verdict.decision == Decision.PROMOTE:
        return True
    is_over = is_past_deadline(context, candidate)
    return is_over and context.spec.rollout.on_inconclusive == "promote"


def _promote(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> DeploymentState:
    if candidate.weight < ALL:
        is_told = context.is_told("promote", candidate.version)
        # The first version has to be asked for, or no route would ever come up.
        is_blocked = context.seen.route.failure is not None and state.stable is not None
        if candidate.waiting_since is not None or is_blocked or (context.is_paused and not is_told):
            return state
        return state.with_candidate(
            candidate, weight=ALL, mirror=0, achieved_weight=None, step_since=context.now
        )
    if not context.is_in_use(state.route):
        return state
    before = state.stable
    fields = {name: getattr(candidate, name) for name in RevisionStatus.model_fields}
    promoted = RevisionStatus(**fields | {"since": context.now, "achieved_weight": None})
    state = replace(state, stable=promoted, candidate=None)
    if before is None or before.replicas == 0:
        return state
    return start_drain(context, state, before, reason=Reason.PROMOTED)


def _finish_rollback(
    context: Context, state: DeploymentState, candidate: CandidateStatus
) -> DeploymentState:
    if not context.is_without_traffic(candidate.revision):
        return state
    state = replace(state, candidate=None)
    return start_drain(context, state, candidate, reason=candidate.reason)


def _at_step(
    context: Context, state: DeploymentState, candidate: CandidateStatus, *, step: int
) -> DeploymentState:
    """The state in which the route gives the candidate what the step says."""
    step = min(step, len(context.spec.rollout.steps) - 1)
    percent = context.spec.rollout.steps[step].weight
    is_mirrored = candidate.strategy == "shadow"
    return state.with_candidate(
        candidate,
        state="Analyzing",
        step=step,
        step_since=None,
        weight=0 if is_mirrored else percent,
        mirror=percent if is_mirrored else 0,
        achieved_weight=None,
    )


def _is_step_over(context: Context, candidate: CandidateStatus) -> bool:
    """Whether the next step is due, of those that there are."""
    is_last = candidate.step >= len(context.spec.rollout.steps) - 1
    if is_last or candidate.step_since is None or context.is_paused:
        return False
    return context.elapsed_s(candidate.step_since) >= step_of(context, candidate).seconds


def _is_blocked(context: Context, candidate: CandidateStatus) -> bool:
    """Whether the proxy does not do what a step needs."""
    is_failing = context.seen.route.failure is not None
    return is_failing or context.strategy_refusal(candidate.strategy) is not None
