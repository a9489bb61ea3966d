"""From the state after a step to the status that is stored."""

from typing import Final, TypeVar

from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    ModelDeploymentStatus,
    RevisionStatus,
    VerdictStatus,
)
from tunesmith_engine.conditions import merge_conditions, truncate_message
from tunesmith_engine.deployment.adapter_hosts import hosts_among
from tunesmith_engine.deployment.choose import Choice
from tunesmith_engine.deployment.conditions import deployment_conditions
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState
from tunesmith_engine.deployment.monitoring_conditions import monitoring_conditions
from tunesmith_engine.deployment.standing import candidate_words, standing
from tunesmith_engine.deployment.verdicts import in_words, next_verdict

# Without a verdict that brings news of it anyway, a split has to move by so many points.
_NOTEWORTHY_POINTS: Final = 5.0

Revision = TypeVar("Revision", RevisionStatus, CandidateStatus)


def next_status(
    context: Context,
    state: DeploymentState,
    choice: Choice,
    *,
    before: ModelDeploymentStatus,
    generation: int,
) -> ModelDeploymentStatus:
    """The status after the step; the very one before it where nothing has changed."""
    verdict = next_verdict(before.last_verdict, before.candidate, context)
    verdict_message = _verdict_message(context, state.candidate, verdict)
    stands = standing(context, state, choice, verdict_message=verdict_message)
    is_news = verdict != before.last_verdict
    candidate = state.candidate and _described(context, state, state.candidate, verdict_message)
    replicas = context.seen.replicas
    after = ModelDeploymentStatus(
        observed_generation=generation,
        phase=stands.phase,
        conditions=merge_conditions(
            [
                *deployment_conditions(context, state, choice, stands),
                *monitoring_conditions(context, state),
            ],
            before=before.conditions,
            generation=generation,
        ),
        stable=state.stable and _with_achieved(context, state.stable, is_news=is_news),
        candidate=candidate and _with_achieved(context, candidate, is_news=is_news),
        draining=list(state.draining),
        rejected=list(state.rejected),
        last_verdict=verdict,
        monitoring=context.monitoring,
        replicas=len(hosts_among(replicas)),
        ready_replicas=len(hosts_among(replica for replica in replicas if replica.is_ready)),
        selector=before.selector,
        endpoint=context.seen.route.endpoint or before.endpoint,
    )
    # NB: the old object where nothing is new: executors compare, and write no equal status.
    return before if after == before else after


def _verdict_message(
    context: Context, candidate: CandidateStatus | None, verdict: VerdictStatus | None
) -> str:
    """The stored verdict's, not the last one's: it does not change with every request."""
    if candidate is None:
        return ""
    if verdict is not None and verdict.revision == candidate.revision:
        return verdict.message
    return in_words(None, context.spec.rollout.analysis)


def _described(
    context: Context, state: DeploymentState, candidate: CandidateStatus, verdict_message: str
) -> CandidateStatus:
    told = candidate_words(context, state, candidate, verdict_message)
    return candidate.model_copy(
        update={"reason": told.reason, "message": truncate_message(told.message)}
    )


def _with_achieved(context: Context, revision: Revision, *, is_news: bool) -> Revision:
    """The revision with the split as the proxy counted it, whole percents, not at every look."""
    stored = revision.achieved_weight
    achieved = context.seen.route.achieved.get(revision.revision)
    if achieved is None:
        return revision
    achieved = float(round(min(100.0, max(0.0, achieved))))
    is_far = stored is None or abs(achieved - stored) >= _NOTEWORTHY_POINTS
    if not is_far and not is_news:
        return revision
    return revision.model_copy(update={"achieved_weight": achieved})
