"""The way out of a revision: no traffic, nothing under way, gone. Or its deadline."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tunesmith_api.modeldeployment.status import DrainingStatus, RevisionStatus
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState

# A request that the proxy had sent off before it took up the route has arrived by then.
QUIET_SECONDS: Final = 5.0


def start_drain(
    context: Context, state: DeploymentState, revision: RevisionStatus, *, reason: str
) -> DeploymentState:
    """The state in which the revision drains. Its weight is 0 from here on."""
    quiet_since = context.now if context.is_without_traffic(revision.revision) else None
    drain = DrainingStatus(
        revision=revision.revision,
        version=revision.version,
        digest=revision.digest,
        uri=revision.uri,
        claim_name=revision.claim_name,
        base=revision.base,
        compared_with=revision.compared_with,
        replicas=revision.replicas,
        ready_replicas=revision.ready_replicas,
        since=context.now,
        quiet_since=quiet_since,
        deadline=_deadline(context, context.now),
        reason=reason,
    )
    return replace(state, draining=(*state.draining, drain))


def cancel_drain(state: DeploymentState, revision: str) -> tuple[DeploymentState, int]:
    """The state without that drain, and the replicas that the revision still has."""
    kept = tuple(drain for drain in state.draining if drain.revision != revision)
    replicas = max(
        (drain.replicas for drain in state.draining if drain.revision == revision), default=0
    )
    return replace(state, draining=kept), replicas


def end_drains(context: Context, state: DeploymentState) -> DeploymentState:
    """The state without what has drained."""
    observed = (_observe(context, drain) for drain in state.draining)
    return replace(
        state, draining=tuple(drain for drain in observed if not _is_over(context, drain))
    )


def _observe(context: Context, drain: DrainingStatus) -> DrainingStatus:
    """The deadline counts from when the route lets go: until then nobody could have finished."""
    if drain.quiet_since is not None and not context.has_traffic(drain.revision):
        return drain
    quiet_since = context.now if context.is_without_traffic(drain.revision) else None
    if quiet_since is None and drain.quiet_since is None:
        return drain
    deadline = _deadline(context, quiet_since) if quiet_since else drain.deadline
    return drain.model_copy(update={"quiet_since": quiet_since, "deadline": deadline})


def _is_over(context: Context, drain: DrainingStatus) -> bool:
    if drain.quiet_since is None or context.has_traffic(drain.revision):
        return False
    if context.now >= drain.deadline:
        return True
    return all(
        replica.is_reachable
        and replica.running == 0
        and replica.quiet_seconds is not None
        and replica.quiet_seconds >= QUIET_SECONDS
        for replica in context.seen.replicas
        if replica.revision == drain.revision
    )


def _deadline(context: Context, since: datetime) -> datetime:
    return since + timedelta(seconds=context.spec.rollout.drain_seconds)
