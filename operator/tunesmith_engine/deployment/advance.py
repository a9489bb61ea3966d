"""`advance`: one step of a deployment, pure and total; nothing else decides.

It is level-triggered, as a job's: from what is stored and what is seen, never from what has just
happened. An executor stores the status first and makes everything as `desired` says then. Killed in
between, it does so from the stored status the next time: all weights and replicas stand in it.
"""

from dataclasses import replace
from datetime import datetime

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.artifact_rollback import reject_mismatched
from tunesmith_engine.deployment.choose import choose
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState
from tunesmith_engine.deployment.desired import desired_of
from tunesmith_engine.deployment.draining import end_drains
from tunesmith_engine.deployment.drift_hold import drift_hold
from tunesmith_engine.deployment.monitoring_step import next_monitoring
from tunesmith_engine.deployment.next_status import next_status
from tunesmith_engine.deployment.observations import Decision, Observations
from tunesmith_engine.deployment.retraining import pending
from tunesmith_engine.deployment.rollout_step import advance_candidate, take_up
from tunesmith_engine.deployment.stable_step import keep_stable, suspend
from tunesmith_engine.deployment.wake import wake_at


def advance(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus | None,
    seen: Observations,
    *,
    generation: int,
    now: datetime,
) -> Decision:
    """The next status, all that has to be there, and when to look again at the latest.

    `now` has a time zone.
    """
    before = status or ModelDeploymentStatus()
    context = Context(spec=spec, seen=seen, now=now)
    observed = DeploymentState.observed(before, context)
    context = replace(context, monitoring=next_monitoring(context, before))
    context = replace(context, hold=drift_hold(context, observed))
    state = end_drains(context, observed)
    if spec.suspend:
        state = suspend(context, state)
    else:
        state = reject_mismatched(context, state)
        state = take_up(context, state, choose(context, state))
        state = keep_stable(context, advance_candidate(context, state))
    # Again, since a rejection of this very step has changed it.
    choice = choose(context, state)
    after = next_status(context, state, choice, before=before, generation=generation)
    candidate = after.candidate
    is_judged = (
        candidate is not None
        and candidate.state == "Analyzing"
        and candidate.analysis_since is not None
    )
    return Decision(
        status=after,
        desired=desired_of(state),
        wake_at=wake_at(context, state, has_moved=state != observed),
        recording=candidate.revision if candidate is not None and is_judged else None,
        retrain=pending(after.monitoring),
    )
