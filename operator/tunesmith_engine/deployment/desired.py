"""All that has to be there, from the status alone: whoever stored it can bring it about again."""

from tunesmith_api.modeldeployment.status import DrainingStatus, RevisionStatus
from tunesmith_engine.deployment.deployment_state import DeploymentState
from tunesmith_engine.deployment.observations import Desired, DesiredRevision


def desired_of(state: DeploymentState) -> Desired:
    """Revisions, each once, and the route."""
    kept = [
        revision
        for revision in (state.stable, state.candidate)
        if revision is not None and not state.is_draining(revision.revision)
    ]
    return Desired(
        revisions=tuple(_wanted(revision) for revision in (*kept, *state.draining)),
        route=state.route,
    )


def _wanted(revision: RevisionStatus) -> DesiredRevision:
    return DesiredRevision(
        revision=revision.revision,
        version=revision.version,
        digest=revision.digest,
        uri=revision.uri,
        replicas=revision.replicas,
        claim_name=revision.claim_name,
        compared_with=revision.compared_with,
        base=revision.base,
        is_draining=isinstance(revision, DrainingStatus),
    )
