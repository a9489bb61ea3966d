"""What is measured of deployments: one series for each revision that there is now, and no more."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Counter, Gauge

from tunesmith_api.modeldeployment.status import ModelDeploymentStatus, RevisionStatus
from tunesmith_operator.controller.work_queue import Key

_OF_REVISION: Final = ("namespace", "deployment", "version", "role")
_OF_EVIDENCE: Final = ("namespace", "deployment", "version", "metric", "side")
Labels = tuple[str, ...]


class DeploymentMetrics:
    """The metrics of all deployments; each is set from the status that was stored last."""

    def __init__(self) -> None:
        self._weight = _gauge("weight", "Percent of the requests that the route gives.")
        self._achieved = _gauge("achieved_weight", "Percent of the requests that it really got.")
        self._ready = _gauge("ready_replicas", "Replicas that generate correctly.")
        self._evidence = Gauge(
            "tunesmith_deployment_evidence",
            "E-values of the judge: 1/alpha of harm rolls back, of promotion promotes.",
            _OF_EVIDENCE,
            registry=None,
        )
        self._rollbacks = Counter(
            "tunesmith_deployment_rollbacks",
            "Revisions that were taken back.",
            _OF_REVISION[:2],
            registry=None,
        )
        self._series: dict[Key, dict[Gauge, set[Labels]]] = {}

    @property
    def collectors(self) -> tuple[Gauge | Counter, ...]:
        """What a registry is to show."""
        return (self._weight, self._achieved, self._ready, self._evidence, self._rollbacks)

    def note(
        self, key: Key, before: ModelDeploymentStatus | None, after: ModelDeploymentStatus
    ) -> None:
        """Note the status of a deployment."""
        series: dict[Gauge, set[Labels]] = {}
        for gauge, labels, value in self._values(key, after):
            gauge.labels(*labels).set(value)
            series.setdefault(gauge, set()).add(labels)
        self._keep(key, series)
        known = {entry.revision for entry in before.rejected} if before else set()
        new = sum(entry.revision not in known for entry in after.rejected) if before else 0
        self._rollbacks.labels(key.namespace, key.name).inc(new)

    def forget(self, key: Key) -> None:
        """Note that a deployment is gone."""
        if key in self._series:
            self._keep(key, {})
            del self._series[key]
            self._rollbacks.remove(key.namespace, key.name)

    def _values(
        self, key: Key, status: ModelDeploymentStatus
    ) -> Iterator[tuple[Gauge, Labels, float]]:
        for role, revision in _revisions(status):
            labels = (key.namespace, key.name, revision.version, role)
            yield self._weight, labels, revision.weight
            yield self._ready, labels, revision.ready_replicas
            if revision.achieved_weight is not None:
                yield self._achieved, labels, revision.achieved_weight
        verdict, candidate = status.last_verdict, status.candidate
        if verdict is None or candidate is None or verdict.revision != candidate.revision:
            return
        for row in verdict.evidence:
            labels = (key.namespace, key.name, verdict.version, row.metric)
            yield self._evidence, (*labels, "harm"), row.harm
            yield self._evidence, (*labels, "promotion"), row.promotion

    def _keep(self, key: Key, series: dict[Gauge, set[Labels]]) -> None:
        """Remove what this deployment had and has no more."""
        for gauge, labels in self._series.get(key, {}).items():
            for gone in labels - series.get(gauge, set()):
                gauge.remove(*gone)
        self._series[key] = series


def _revisions(status: ModelDeploymentStatus) -> Iterator[tuple[str, RevisionStatus]]:
    if status.stable is not None:
        yield "stable", status.stable
    if status.candidate is not None:
        yield "candidate", status.candidate


def _gauge(name: str, about: str) -> Gauge:
    return Gauge(f"tunesmith_deployment_{name}", about, _OF_REVISION, registry=None)
