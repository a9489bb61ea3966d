"""From a version whose artifact no longer answers as it was judged, back to the one before.

Only where the spec asks for it and names no version: what Git pins is not fought. Stable is
rejected, so that it never comes back by itself, and `choose` has one version tried in its place. If
that one does not answer rightly either, the fault is not in the version, and no other is worn out.
"""

from dataclasses import replace
from typing import Final

from tunesmith_api.modeldeployment.status import RejectedVersion, RevisionStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.choose import version_before
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState
from tunesmith_engine.deployment.monitoring_step import is_wrong
from tunesmith_engine.deployment.take_back import remember

# A replica has asked for all fingerprints again before it says so; this is for a flap.
CONFIRM_SECONDS: Final = 10.0


def reject_mismatched(context: Context, state: DeploymentState) -> DeploymentState:
    """The state in which stable is rejected, if none of its replicas answers rightly any more."""
    stable = state.stable
    if stable is None or not _has_to_go(context, state, stable):
        return state
    artifact = context.monitoring.artifact if context.monitoring else None
    rejected = RejectedVersion(
        version=stable.version,
        revision=stable.revision,
        reason=Reason.FINGERPRINT_MISMATCH,
        message=artifact.message if artifact else "",
        time=context.now,
    )
    return replace(state, rejected=remember(context, state, rejected))


def _has_to_go(context: Context, state: DeploymentState, stable: RevisionStatus) -> bool:
    monitoring, spec = context.monitoring, context.spec
    artifact = monitoring.artifact if monitoring is not None else None
    is_asked = "rollback" in spec.monitoring.on_drift.artifact and spec.version is None
    if artifact is None or not is_asked or not context.seen.versions_known:
        return False
    replicas = context.replicas_of(stable.revision)
    is_lost = not stable.ready_replicas and any(map(is_wrong, replicas))
    is_lasting = context.elapsed_s(artifact.since) >= CONFIRM_SECONDS
    if not is_lost or not is_lasting or state.is_stable_rejected:
        return False
    return not _was_fallen_back_to(context, state, stable) and bool(version_before(context, state))


def _was_fallen_back_to(context: Context, state: DeploymentState, stable: RevisionStatus) -> bool:
    """Whether stable took over from a newer version that was rejected for the same reason."""
    created = {version.version: version.created for version in context.seen.versions}
    own = created.get(stable.version, stable.since)
    return any(
        entry.reason == Reason.FINGERPRINT_MISMATCH
        and entry.time <= stable.since
        and created.get(entry.version, own) > own
        for entry in state.rejected
    )
