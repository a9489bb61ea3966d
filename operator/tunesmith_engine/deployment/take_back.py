"""When a candidate is taken back, and how: by its replicas, its judge, a person, or a newer one."""

from dataclasses import replace
from typing import Final

from tunesmith_api.conditions import MAX_REASON
from tunesmith_api.modeldeployment.status import MAX_REJECTED, CandidateStatus, RejectedVersion
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.deployment.deployment_state import ALL, Context, DeploymentState, Refusal
from tunesmith_engine.deployment.draining import start_drain
from tunesmith_engine.deployment.revisions import revision_of
from tunesmith_engine.deployment.verdicts import in_words, is_past_deadline
from tunesmith_engine.rollout.judge import Decision

# A replica that crashes has no need of statistics. Twice may be a node; three times is the version.
MAX_RESTARTS: Final = 3
UNREADY_SECONDS: Final = 60.0


def can_leave(state: DeploymentState) -> bool:
    """Whether the candidate can go without leaving the requests to nobody.

    One that is on its way back is not disturbed: it has been rejected, and is gone soon.
    """
    candidate = state.candidate
    if candidate is None or candidate.state == "RollingBack":
        return False
    return candidate.weight < ALL or state.is_stable_running


def leave(context: Context, state: DeploymentState, *, reason: str) -> DeploymentState:
    """The state in which the candidate drains, or is gone if it never had a request."""
    candidate = state.candidate
    if candidate is None:
        return state
    state = replace(state, candidate=None)
    if _is_untouched(context, candidate):
        return state
    return start_drain(context, state, candidate, reason=reason)


def roll_back(context: Context, state: DeploymentState, why: Refusal) -> DeploymentState:
    """The state in which the candidate is rejected and gets nothing more."""
    candidate = state.candidate
    if candidate is None:
        return state
    why = Refusal(why.reason[:MAX_REASON], truncate_message(why.message))
    # At once, not when it has drained: whatever happens in between, it never comes back.
    rejected = RejectedVersion(
        version=candidate.version,
        revision=candidate.revision,
        reason=why.reason,
        message=why.message,
        time=context.now,
    )
    state = replace(state, rejected=remember(context, state, rejected))
    if _is_untouched(context, candidate):
        return leave(context, state, reason=why.reason)
    return state.with_candidate(
        candidate,
        state="RollingBack",
        weight=0,
        mirror=0,
        achieved_weight=None,
        waiting_since=None,
        unready_since=None,
        reason=why.reason,
        message=why.message,
    )


def why_take_back(context: Context, state: DeploymentState) -> Refusal | None:
    """What speaks against the candidate, the hardest first."""
    candidate = state.candidate
    if candidate is None or not can_leave(state):
        return None
    if context.is_told("abort", candidate.version):
        return Refusal(Reason.ABORTED, "a person aborted it")
    return _why_replicas(context, candidate) or _why_analysis(context, candidate)


def _why_replicas(context: Context, candidate: CandidateStatus) -> Refusal | None:
    for replica in context.replicas_of(candidate.revision):
        if replica.failure is not None:
            told = replica.message or "no waiting will mend it"
            return Refusal(replica.failure, f"replica {replica.name}: {told}")
        if replica.restarts >= MAX_RESTARTS:
            told = f"; {replica.message}" if replica.message else ""
            message = f"replica {replica.name} was started {replica.restarts} times again{told}"
            return Refusal(Reason.REPLICA_CRASHED, message)
    shown = f"{candidate.ready_replicas} of {candidate.replicas} replicas are ready"
    deadline = context.spec.rollout.progress_deadline_seconds
    if context.elapsed_s(candidate.waiting_since) >= deadline:
        message = f"after {deadline} s (rollout.progressDeadlineSeconds) {shown}"
        waits = {r.message for r in context.replicas_of(candidate.revision) if not r.is_ready}
        told = "; ".join(sorted(waits - {""}))
        return Refusal(Reason.PROGRESS_DEADLINE_EXCEEDED, f"{message}{f'; {told}' if told else ''}")
    if context.elapsed_s(candidate.unready_since) > UNREADY_SECONDS:
        return Refusal(Reason.REPLICA_NOT_READY, f"for {UNREADY_SECONDS:g} s only {shown}")
    return None


def _why_analysis(context: Context, candidate: CandidateStatus) -> Refusal | None:
    if candidate.state != "Analyzing" or candidate.analysis_since is None:
        return None
    verdict, limits = context.seen.verdict, context.spec.rollout.analysis
    if verdict is not None and verdict.decision == Decision.ROLLBACK:
        return Refusal(Reason.ANALYSIS_FAILED, in_words(verdict, limits))
    if context.spec.rollout.on_inconclusive != "rollback" or not is_past_deadline(
        context, candidate
    ):
        return None
    return Refusal(Reason.ANALYSIS_INCONCLUSIVE, in_words(verdict, limits))


def _is_untouched(context: Context, candidate: CandidateStatus) -> bool:
    """Whether no request can be under way in it, so that it need not drain."""
    has_run = any(
        replica.running or replica.accepted
        for replica in context.seen.replicas
        if replica.revision == candidate.revision
    )
    return (
        candidate.state == "Starting"
        and candidate.step_since is None
        and not has_run
        and not context.has_traffic(candidate.revision)
    )


def remember(
    context: Context, state: DeploymentState, rejected: RejectedVersion
) -> tuple[RejectedVersion, ...]:
    """The rejections that are kept, the newest last."""
    # NB: those that could be tried now are kept beyond the limit, or two bad versions would take
    # turns for ever.
    current = {revision_of(context.spec, version) for version in context.seen.versions}
    before = [entry for entry in state.rejected if entry.revision != rejected.revision]
    room = context.spec.revision_history_limit - 1
    recent = before[len(before) - room :] if room < len(before) else before
    kept = [entry for entry in before if entry in recent or entry.revision in current]
    return (*kept, rejected)[-MAX_REJECTED:]
