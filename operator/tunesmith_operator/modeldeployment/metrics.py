"""What is measured of deployments, as Prometheus reads it: what their statuses say at the moment.

Gauges are made of the status that was stored last whenever somebody looks, so that none outlives
its revision. What has happened is counted here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.monitoring.deployment_metrics import Measurement, deployment_metrics
from tunesmith_engine.monitoring.metric_families import DEFAULT_PRICE, ROLLOUTS, MetricFamily
from tunesmith_operator.controller.work_queue import Key

Result = Literal["promoted", "rolledBack"]
_KINDS: Final[Mapping[str, type[GaugeMetricFamily | CounterMetricFamily]]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
}
RESULTS: Final[tuple[Result, ...]] = get_args(Result)


class DeploymentMetrics(Collector):
    """The metrics of all deployments.

    `default_price` is that of one accelerator for one hour where a deployment names none.
    """

    def __init__(self, default_price: float | None = None) -> None:
        self._default_price = default_price
        self._specs: dict[Key, ModelDeploymentSpec] = {}
        self._statuses: dict[Key, ModelDeploymentStatus] = {}
        self._rollouts: Counter[tuple[Key, Result]] = Counter()

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """What a registry is to show."""
        return (self,)

    def read(self, key: Key, spec: ModelDeploymentSpec) -> None:
        """Note what a deployment asks for."""
        self._specs[key] = spec

    def note(
        self, key: Key, before: ModelDeploymentStatus | None, after: ModelDeploymentStatus
    ) -> None:
        """Note the status of a deployment, and what happened since the one before."""
        self._statuses[key] = after
        if before is None:
            return
        known = {entry.revision for entry in before.rejected}
        self._rollouts[key, "rolledBack"] += sum(
            entry.revision not in known for entry in after.rejected
        )
        stable, followed = before.stable, after.stable
        if stable is not None and followed is not None:
            self._rollouts[key, "promoted"] += stable.revision != followed.revision

    def forget(self, key: Key) -> None:
        """Note that a deployment is gone."""
        self._specs.pop(key, None)
        self._statuses.pop(key, None)
        for result in RESULTS:
            self._rollouts.pop((key, result), None)

    def collect(self) -> Iterator[Metric]:
        """Every family that has a series now."""
        by_family: defaultdict[MetricFamily, list[Measurement]] = defaultdict(list)
        for measurement in self._measurements():
            by_family[measurement.family].append(measurement)
        for family, measurements in by_family.items():
            yield _shown(family, measurements)

    def _measurements(self) -> Iterator[Measurement]:
        if self._default_price is not None:
            yield Measurement(DEFAULT_PRICE, {}, self._default_price)
        for key, spec in self._specs.items():
            yield from deployment_metrics(
                spec,
                self._statuses.get(key),
                namespace=key.namespace,
                name=key.name,
                default_price=self._default_price,
            )
            for result in RESULTS:
                labels = {"namespace": key.namespace, "deployment": key.name, "result": result}
                yield Measurement(ROLLOUTS, labels, self._rollouts[key, result])


def _shown(family: MetricFamily, measurements: list[Measurement]) -> Metric:
    shown = _KINDS[family.type](family.name, family.about, labels=family.labels)
    for each in measurements:
        shown.add_metric([each.labels[name] for name in family.labels], each.value)
    return shown
