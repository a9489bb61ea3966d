"""What a deployment's status says as metrics: everything that needs no memory of its own.

The operator calls it when Prometheus asks, so that no series outlives its deployment. Counters of
what happened (`ROLLOUTS`) are the operator's, which sees it happen.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import log

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import (
    DeploymentPhase,
    ModelDeploymentStatus,
    RevisionStatus,
)
from tunesmith_engine.monitoring import metric_families as families
from tunesmith_engine.monitoring.metric_families import MetricFamily

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One series of a family as it stands now."""

    family: MetricFamily
    labels: Labels
    value: float


def deployment_metrics(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus | None,
    *,
    namespace: str,
    name: str,
    default_price: float | None,
) -> Iterator[Measurement]:
    """Every gauge of the deployment `name`.

    `default_price` is that of one accelerator for one hour where the deployment names none; None
    if nobody knows it, and then no cost is shown rather than 0.
    """
    labels = {"namespace": namespace, "deployment": name}
    own_price = spec.cost.price_per_accelerator_hour
    price = default_price if own_price is None else own_price
    if price is not None:
        yield Measurement(families.PRICE, labels, price)
    if status is None:
        return
    for phase in DeploymentPhase:
        of_phase = float(status.phase == phase)
        yield Measurement(families.PHASE, {**labels, "phase": phase}, of_phase)
    for role, revision in _revisions(status):
        of_revision = {
            **labels,
            "version": revision.version,
            "revision": revision.revision,
            "role": role,
        }
        info = {**of_revision, "model": spec.model}
        yield Measurement(families.DEPLOYMENT_INFO, info, 1.0)
        gpus = spec.resources.gpus_per_replica
        yield from _revision_metrics(revision, of_revision, gpus_per_replica=gpus)
    yield from _judge_metrics(status, labels)
    yield from _drift_metrics(spec, status, labels)


def _revisions(status: ModelDeploymentStatus) -> Iterator[tuple[str, RevisionStatus]]:
    if status.stable is not None:
        yield "stable", status.stable
    if status.candidate is not None:
        yield "candidate", status.candidate
    yield from (("draining", revision) for revision in status.draining)


def _revision_metrics(
    revision: RevisionStatus, labels: Labels, *, gpus_per_replica: int
) -> Iterator[Measurement]:
    yield Measurement(families.REPLICAS, labels, revision.replicas)
    yield Measurement(families.READY_REPLICAS, labels, revision.ready_replicas)
    # Those that start hold theirs, too.
    accelerators = max(revision.replicas, revision.ready_replicas) * gpus_per_replica
    yield Measurement(families.ACCELERATORS, labels, accelerators)
    yield Measurement(families.WEIGHT, labels, revision.weight / 100)
    if revision.achieved_weight is not None:
        yield Measurement(families.ACHIEVED_WEIGHT, labels, revision.achieved_weight / 100)


def _judge_metrics(status: ModelDeploymentStatus, labels: Labels) -> Iterator[Measurement]:
    verdict, candidate = status.last_verdict, status.candidate
    # A verdict on a candidate that is gone is history; as a metric it would never end.
    if verdict is None or candidate is None or verdict.revision != candidate.revision:
        return
    for evidence in verdict.evidence:
        of_metric = {**labels, "version": verdict.version, "metric": evidence.metric}
        for kind, value in (("harm", evidence.harm), ("promotion", evidence.promotion)):
            log_e = log(max(value, sys.float_info.min))
            yield Measurement(families.JUDGE_LOG_E, {**of_metric, "kind": kind}, log_e)


def _drift_metrics(
    spec: ModelDeploymentSpec, status: ModelDeploymentStatus, labels: Labels
) -> Iterator[Measurement]:
    monitoring, actions = status.monitoring, spec.monitoring.on_drift
    if monitoring is None:
        return
    traffic, artifact = monitoring.traffic, monitoring.artifact
    if traffic is not None:
        of_version = {**labels, "version": traffic.version}
        for row in traffic.signals:
            of_signal = {**of_version, "signal": row.signal}
            yield Measurement(families.DRIFT_LOG_E, of_signal, row.log_e)
            yield Measurement(families.DRIFT_EFFECT, of_signal, row.effect)
        # Alerts ring past it: without it, none does.
        if traffic.threshold_log_e is not None and "alert" in actions.traffic:
            yield Measurement(families.DRIFT_THRESHOLD, of_version, traffic.threshold_log_e)
    if artifact is not None and "alert" in actions.artifact:
        of_version = {**labels, "version": artifact.version}
        yield Measurement(families.ARTIFACT_MISMATCH, of_version, float(artifact.mismatch))
