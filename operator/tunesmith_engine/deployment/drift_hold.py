"""Why a rollout stays at its step, where drift is to hold it."""

from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState, Refusal


def drift_hold(context: Context, state: DeploymentState) -> Refusal | None:
    """What holds the candidate; never one that takes over from a stable that was rejected."""
    candidate, monitoring = state.candidate, context.monitoring
    if candidate is None or monitoring is None or state.is_stable_rejected:
        return None
    actions = context.spec.monitoring.on_drift
    artifact, traffic = monitoring.artifact, monitoring.traffic
    if artifact is not None and artifact.mismatch and "holdRollout" in actions.artifact:
        return Refusal(
            Reason.FINGERPRINT_MISMATCH,
            f"{artifact.mismatched_replicas} replicas of {artifact.version} answer wrongly",
        )
    if traffic is None or traffic.drifted_since is None or "holdRollout" not in actions.traffic:
        return None
    # NB: a version that was published later may be the answer to the drift, and is not held.
    if candidate.since > traffic.drifted_since:
        return None
    return Refusal(Reason.TRAFFIC_DRIFTED, f"the traffic has drifted in {traffic.drifted[0]}")
