"""From Prometheus' text to counts, over restarts, and to percentiles."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tunesmith_api.modeldeployment.slo import BOUNDARIES
from tunesmith_engine.monitoring.replica_metrics import (
    ReplicaMetrics,
    added_up,
    increase,
    parse_metrics,
    quantile,
)
from tunesmith_serving.tap.metrics import ReplicaMetrics as Exporter

TTFT = "tunesmith_time_to_first_token_seconds"


def exported(*times: float, itl: float | None = 0.02, outcome: str = "complete") -> ReplicaMetrics:
    """What a replica's own exporter shows after requests with these times."""
    registry = CollectorRegistry()
    exporter = Exporter(models=["helpdesk"], version="v1", registry=registry)
    for seconds in times:
        exporter.observe("helpdesk", outcome=outcome, ttft_seconds=seconds, itl_seconds=itl)  # type: ignore[arg-type]
    return parse_metrics(generate_latest(registry).decode())


def test_what_a_replica_exports_is_read_back() -> None:
    read = exported(0.1, 0.1, 0.31)

    assert read.outcomes["complete"] == 3
    assert read.outcomes["error"] == 0
    assert read.ttft == {0.1: 2, 0.4: 1}
    assert read.itl == {0.02: 3}


def test_tokens_are_those_of_the_engine() -> None:
    text = 'vllm:generation_tokens_total{model_name="x",engine="0"} 1.5e+03\n'

    assert parse_metrics(text).tokens == 1500


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>no metrics</html>",
        "tunesmith_requests_total NaN",
        "tunesmith_requests_total{",
        f'{TTFT}_bucket{{le="soon"}} 3',
        "tunesmith_requests_total_created 5",
    ],
)
def test_what_is_no_count_is_passed_over(text: str) -> None:
    assert parse_metrics(text).num_requests == 0
    assert parse_metrics(text).ttft == {}


def test_only_what_is_new_counts() -> None:
    before, after = exported(0.1, 0.3), exported(0.1, 0.3, 0.3, 5.0)

    grown = increase(before, after)

    assert grown.outcomes["complete"] == 2
    assert grown.ttft == {0.3: 1, 5.0: 1}


def test_after_a_restart_all_of_it_is_new() -> None:
    before, after = exported(*[0.1] * 9), exported(0.3, 0.3)

    assert increase(before, after) == after


def test_percentiles_are_prometheus_own() -> None:
    # histogram_quantile over buckets 0.1: 4 and 0.2: 10 gives these.
    histogram = {0.1: 4.0, 0.15: 6.0}

    assert quantile(histogram, 0.4) == pytest.approx(0.1)
    assert quantile(histogram, 0.7) == pytest.approx(0.125)
    assert quantile(histogram, 1.0) == pytest.approx(0.15)


def test_without_observations_there_is_no_percentile() -> None:
    assert quantile({}, 0.5) is None


def test_what_lies_above_every_boundary_is_the_last_one() -> None:
    assert quantile({math.inf: 3.0}, 0.5) == BOUNDARIES[-1]


@settings(max_examples=50)
@given(st.lists(st.floats(min_value=0.002, max_value=50), min_size=5, max_size=60))
def test_a_percentile_is_off_by_one_bucket_at_most(times: list[float]) -> None:
    registry = CollectorRegistry()
    histogram = Histogram(TTFT, "", buckets=BOUNDARIES, registry=registry)
    for seconds in times:
        histogram.observe(seconds)
    read = parse_metrics(generate_latest(registry).decode())

    value = quantile(read.ttft, 0.5)
    true = float(np.quantile(times, 0.5, method="inverted_cdf"))

    assert value is not None
    upper = next(bound for bound in BOUNDARIES if bound >= true)
    lower = max([0.0, *(bound for bound in BOUNDARIES if bound < true)])
    assert lower <= value <= upper


def test_replicas_are_added_up() -> None:
    both = added_up([exported(0.1), exported(0.1, 0.3)])

    assert both.outcomes["complete"] == 3
    assert both.ttft == {0.1: 2, 0.3: 1}
