"""Every query of every dashboard, asked of a real Prometheus that scrapes what we export."""

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart import CHART
from monitored_deployment import MonitoredDeployment, slo_groups
from prometheus_server import PrometheusServer, prometheus

DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((CHART / "files" / "dashboards").glob("*.json"))
}
QUERIES = {
    f"{name}: {panel['title']} {target['refId']}": target["expr"]
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
}
# What Grafana fills in.
FILLED_IN = {"$__rate_interval": "1m", "$namespace": ".+", "$deployment": ".+"}
MOST_SECONDS = 40.0


def rule_groups() -> list[dict[str, Any]]:
    """Those of the chart and those of the deployment."""
    groups = slo_groups()
    for path in (CHART / "files" / "rules").glob("*.yaml"):
        groups += yaml.safe_load(path.read_text())["groups"]
    return groups


def filled_in(query: str) -> str:
    for variable, value in FILLED_IN.items():
        query = query.replace(variable, value)
    return query


def has_data(server: PrometheusServer, query: str) -> bool:
    samples = server.query(filled_in(query))
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


def comes(server: PrometheusServer, query: str) -> bool:
    """Whether there is data in time."""
    # A scrape that a busy machine misses takes its series away until the next one.
    end = time.monotonic() + MOST_SECONDS
    while not (found := has_data(server, query)) and time.monotonic() < end:
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Prometheus, once every query has data, or after 40 seconds."""
    folder = tmp_path_factory.mktemp("prometheus")
    monitored = MonitoredDeployment()
    monitored.start()
    try:
        with prometheus(folder, targets=monitored.targets, groups=rule_groups()) as running:
            waiting = list(QUERIES.values())
            end = time.monotonic() + MOST_SECONDS
            while waiting and time.monotonic() < end:
                monitored.answer(20)
                time.sleep(1)
                waiting = [query for query in waiting if not has_data(running, query)]
            yield running
    finally:
        monitored.stop()


@pytest.mark.parametrize("panel", QUERIES)
def test_every_panel_shows_data(panel: str, server: PrometheusServer) -> None:
    assert comes(server, QUERIES[panel]), filled_in(QUERIES[panel])


def test_every_rule_can_be_evaluated(server: PrometheusServer) -> None:
    """Labels that do not match fail only when there is data."""
    assert server.query("sum(prometheus_rule_evaluation_failures_total) > 0") == []


def test_the_share_that_misses_an_slo_is_that_of_the_requests(server: PrometheusServer) -> None:
    query = 'deployment:slo_errors:ratio_rate1h{slo="availability"}'
    assert comes(server, query)  # each promise has a group of rules, and a time, of its own
    (sample,) = server.query(query)

    # One in 21; Prometheus extrapolates to the edges of the window.
    assert float(sample["value"][1]) == pytest.approx(1 / 21, rel=0.05)
