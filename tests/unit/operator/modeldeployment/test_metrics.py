"""What Prometheus reads of deployments, and that nothing outlives its cause."""

import math

import pytest
from prometheus_client import CollectorRegistry

from monitored_deployment import KEY, deployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.monitoring.metric_families import FAMILIES
from tunesmith_operator.modeldeployment.metrics import DeploymentMetrics

OF = {"namespace": "ml", "deployment": "helpdesk"}
STABLE = {**OF, "version": "v1", "revision": "0000aaaa", "role": "stable"}
CANDIDATE = {**OF, "version": "v2", "revision": "0000bbbb", "role": "candidate"}


def status() -> ModelDeploymentStatus:
    given = deployment().status
    assert given is not None
    return given


@pytest.fixture
def metrics() -> DeploymentMetrics:
    noted = DeploymentMetrics(2.5)
    noted.read(KEY, deployment().spec)
    noted.note(KEY, None, status())
    return noted


@pytest.fixture
def registry(metrics: DeploymentMetrics) -> CollectorRegistry:
    made = CollectorRegistry()
    for collector in metrics.collectors:
        made.register(collector)
    return made


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("tunesmith_deployment_info", {**STABLE, "model": "helpdesk"}, 1.0),
        ("tunesmith_deployment_weight_ratio", CANDIDATE, 0.25),
        ("tunesmith_deployment_achieved_weight_ratio", CANDIDATE, 0.258),
        ("tunesmith_deployment_ready_replicas", STABLE, 1.0),
        ("tunesmith_deployment_accelerators", STABLE, 1.0),
        ("tunesmith_deployment_phase", {**OF, "phase": "Progressing"}, 1.0),
        ("tunesmith_deployment_phase", {**OF, "phase": "Serving"}, 0.0),
        # Its own price, and not the operator's.
        ("tunesmith_deployment_accelerator_hour_price", OF, 3.0),
        ("tunesmith_accelerator_hour_price", {}, 2.5),
        (
            "tunesmith_judge_log_e_value",
            {**OF, "version": "v2", "metric": "ttftP90", "kind": "promotion"},
            math.log(12),
        ),
    ],
)
def test_the_status_is_told(
    name: str, labels: dict[str, str], value: float, registry: CollectorRegistry
) -> None:
    assert registry.get_sample_value(name, labels) == pytest.approx(value)


def test_every_family_is_of_the_table_with_its_labels(registry: CollectorRegistry) -> None:
    """Rules and dashboards go by it."""
    labels = {family.name: set(family.labels) for family in FAMILIES}

    shown = {
        sample.name: set(sample.labels)
        for family in registry.collect()
        for sample in family.samples
    }
    assert shown == {name: labels[name] for name in shown}


def test_a_candidate_that_is_gone_leaves_no_series(
    metrics: DeploymentMetrics, registry: CollectorRegistry
) -> None:
    after = status().model_copy(update={"candidate": None})
    metrics.note(KEY, status(), after)

    assert registry.get_sample_value("tunesmith_deployment_weight_ratio", CANDIDATE) is None
    evidence = {**OF, "version": "v2", "metric": "ttftP90", "kind": "harm"}
    assert registry.get_sample_value("tunesmith_judge_log_e_value", evidence) is None


def test_rollouts_are_counted_from_zero(
    metrics: DeploymentMetrics, registry: CollectorRegistry
) -> None:
    def counted(result: str) -> float | None:
        return registry.get_sample_value("tunesmith_rollouts_total", {**OF, "result": result})

    assert (counted("promoted"), counted("rolledBack")) == (0, 0)

    before = status()
    promoted = before.model_copy(update={"stable": before.candidate, "candidate": None})
    metrics.note(KEY, before, promoted)
    metrics.note(KEY, promoted, promoted)
    assert (counted("promoted"), counted("rolledBack")) == (1, 0)


def test_nothing_is_told_of_a_deployment_that_is_gone(
    metrics: DeploymentMetrics, registry: CollectorRegistry
) -> None:
    metrics.forget(KEY)

    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert names == {"tunesmith_accelerator_hour_price"}
