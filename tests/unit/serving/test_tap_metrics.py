"""What a replica counts: bounded, exact at the thresholds of an SLO, unharmed by odd numbers."""

import math

import pytest
from prometheus_client import CollectorRegistry

from tunesmith_serving.tap.metrics import OTHER_MODEL, ReplicaMetrics

TTFT = "tunesmith_time_to_first_token_seconds"
LABELS = {"model": "helpdesk", "version": "v1"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ReplicaMetrics:
    return ReplicaMetrics(models=["helpdesk"], version="v1", registry=registry)


def num_series(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())


def test_a_request_is_counted_by_version_and_outcome(
    metrics: ReplicaMetrics, registry: CollectorRegistry
) -> None:
    metrics.observe(
        "helpdesk",
        outcome="complete",
        ttft_seconds=0.2,
        itl_seconds=0.02,
        prompt_tokens=20,
        output_tokens=5,
    )

    value = registry.get_sample_value
    assert value("tunesmith_requests_total", {**LABELS, "outcome": "complete"}) == 1
    assert value("tunesmith_prompt_tokens_total", LABELS) == 20
    assert value("tunesmith_output_tokens_total", LABELS) == 5
    assert value("tunesmith_inter_token_latency_seconds_count", LABELS) == 1


def test_the_threshold_of_an_slo_is_a_boundary(
    metrics: ReplicaMetrics, registry: CollectorRegistry
) -> None:
    """What lies at it has kept it."""
    for seconds in (0.29, 0.3, 0.31):
        metrics.observe("helpdesk", outcome="complete", ttft_seconds=seconds)

    assert registry.get_sample_value(f"{TTFT}_bucket", {**LABELS, "le": "0.3"}) == 2


def test_outcomes_are_there_before_the_first_of_them(
    metrics: ReplicaMetrics, registry: CollectorRegistry
) -> None:
    """An increase from nothing to 1 is none to Prometheus."""
    labels = {**LABELS, "outcome": "incomplete"}

    assert registry.get_sample_value("tunesmith_requests_total", labels) == 0


def test_invented_models_make_no_series(
    metrics: ReplicaMetrics, registry: CollectorRegistry
) -> None:
    metrics.observe("invented", outcome="rejected")
    before = num_series(registry)
    for number in range(1000):
        metrics.observe(f"invented-{number}", outcome="rejected")

    labels = {"model": OTHER_MODEL, "version": "v1", "outcome": "rejected"}
    assert registry.get_sample_value("tunesmith_requests_total", labels) == 1001
    assert num_series(registry) == before


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0])
def test_an_odd_number_spoils_no_histogram(
    odd: float, metrics: ReplicaMetrics, registry: CollectorRegistry
) -> None:
    """One NaN in a sum is there for ever."""
    metrics.observe("helpdesk", outcome="complete", ttft_seconds=odd, output_tokens=-3)

    assert registry.get_sample_value(f"{TTFT}_sum", LABELS) == 0
