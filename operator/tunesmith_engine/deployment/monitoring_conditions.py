"""DriftDetected, ArtifactMismatch, BiasGrown and SLOBurning, each with its evidence in words.

All from `status.monitoring` as it will be stored, so that a message changes no more often.
"""

from collections.abc import Iterator

from tunesmith_api.conditions import Condition
from tunesmith_api.modeldeployment.monitoring_status import (
    ArtifactStatus,
    MonitoringStatus,
    SloStatus,
    TrafficStatus,
)
from tunesmith_api.modeldeployment.status import DeploymentCondition
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import make_condition
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState, Refusal

_SHOWN = 3


def monitoring_conditions(context: Context, state: DeploymentState) -> Iterator[Condition]:
    """Those of what is watched; numbers of a version that is no longer stable say nothing."""
    monitoring, stable = context.monitoring, state.stable
    if monitoring is None or stable is None:
        return
    traffic, artifact = monitoring.traffic, monitoring.artifact
    if traffic is not None and traffic.version == stable.version:
        yield _drift(context, monitoring, traffic)
    if artifact is not None and artifact.version == stable.version:
        yield _artifact(context, artifact)
        if artifact.bias:
            yield _bias(context, artifact)
    if monitoring.slos:
        yield _burning(context, monitoring.slos)


def _drift(context: Context, monitoring: MonitoringStatus, traffic: TrafficStatus) -> Condition:
    type_, now = DeploymentCondition.DRIFT_DETECTED, context.now
    if traffic.reason:
        message = f"nothing can be said of the traffic of {traffic.version} yet"
        condition = make_condition(
            type_, is_true=False, reason=traffic.reason, message=message, now=now
        )
        return condition.model_copy(update={"status": "Unknown"})
    seen = f"{traffic.requests} requests to {traffic.version}"
    if not traffic.drifted:
        told = Refusal(Reason.TRAFFIC_AS_REFERENCE, f"{seen} are like its training data")
    else:
        shown = "; ".join(
            f"{row.signal} effect {row.effect:.2g}, log e {row.log_e:.3g}"
            for row in traffic.signals[:_SHOWN]
            if row.signal in traffic.drifted
        )
        limit = f" (of {traffic.threshold_log_e:.3g})" if traffic.threshold_log_e else ""
        follows = _retrained(context, monitoring)
        told = Refusal(Reason.TRAFFIC_DRIFTED, f"{seen}: {shown}{limit}{follows}")
    return make_condition(
        type_, is_true=bool(traffic.drifted), reason=told.reason, message=told.message, now=now
    )


def _retrained(context: Context, monitoring: MonitoringStatus) -> str:
    """What came of `retrain`, where it is asked for."""
    spec = context.spec.monitoring
    if "retrain" not in spec.on_drift.traffic or spec.retrain is None:
        return ""
    if context.seen.cannot_retrain:
        return f"; {context.seen.cannot_retrain}"
    last = monitoring.retrainings[-1] if monitoring.retrainings else None
    traffic = monitoring.traffic
    if last is None or traffic is None or last.version != traffic.version:
        is_spent = monitoring.num_retrainings >= spec.retrain.max_runs
        return "; no job is made: retrain.maxRuns" if is_spent else "; the next job waits"
    if last.state == "Created":
        return f"; job {last.job} was made"
    return f"; job {last.job} is to be made{f': {last.message}' if last.message else ''}"


def _artifact(context: Context, artifact: ArtifactStatus) -> Condition:
    if artifact.mismatch:
        told = Refusal(
            Reason.FINGERPRINT_MISMATCH,
            f"{artifact.mismatched_replicas} replicas of {artifact.version}, the worst "
            f"{artifact.replica}: {artifact.message}",
        )
    elif not artifact.probes:
        told = Refusal(Reason.NOT_PROBED, f"no replica of {artifact.version} was asked yet")
    else:
        told = Refusal(
            Reason.FINGERPRINTS_MATCH,
            f"replicas of {artifact.version} differ by {artifact.worst_nats or 0:.3f} nats in "
            "their worst prompt",
        )
    return make_condition(
        DeploymentCondition.ARTIFACT_MISMATCH,
        is_true=artifact.mismatch,
        reason=told.reason,
        message=told.message,
        now=context.now,
    )


def _bias(context: Context, artifact: ArtifactStatus) -> Condition:
    grown = [one for one in artifact.bias if one.grown]
    shown = "; ".join(
        f"{one.suite} from {one.released_nats:.3f} to {one.nats:.3f} nats a token "
        f"(growth {one.low_nats:.3f} to {one.high_nats:.3f}, {one.pairs} pairs)"
        for one in (grown or artifact.bias)[:_SHOWN]
    )
    return make_condition(
        DeploymentCondition.BIAS_GROWN,
        is_true=bool(grown),
        reason=Reason.BIAS_GROWN if grown else Reason.BIAS_AS_RELEASED,
        message=f"{artifact.version}: {shown}",
        now=context.now,
    )


def _burning(context: Context, slos: list[SloStatus]) -> Condition:
    burning = [slo for slo in slos if slo.burning]
    shown = "; ".join(
        f"{slo.name} of {slo.objective:.5g} burns {slo.burn_rate or 0:.3g} times as fast as allowed"
        f", {100 * (slo.budget_remaining or 0):.3g} % of the month's budget is left"
        for slo in burning
    )
    names = ", ".join(slo.name for slo in slos)
    return make_condition(
        DeploymentCondition.SLO_BURNING,
        is_true=bool(burning),
        reason=Reason.ERROR_BUDGET_BURNS if burning else Reason.WITHIN_ERROR_BUDGET,
        message=shown or f"{names}: within the error budget",
        now=context.now,
    )
