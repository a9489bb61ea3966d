"""What the server's vLLM shows on /metrics: its own names as dashboards have them, and ours."""

import subprocess
from pathlib import Path

import pytest

from monitored_deployment import VLLM_COUNTERS, VLLM_GAUGES, VLLM_HISTOGRAMS

SERVER = Path(__file__).parents[2] / ".venvs" / "server"
# As Prometheus asks: in the format that it is offered here, prometheus_client would write `vllm_`.
ASK = """
from fastapi import FastAPI
from prometheus_client import Gauge
from starlette.testclient import TestClient
from tunesmith_serving.tap.metrics import ReplicaMetrics
from vllm.entrypoints.serve.instrumentator.metrics import attach_router

app = FastAPI()
attach_router(app)
Gauge("vllm:num_requests_waiting", "As vLLM makes it.")
ReplicaMetrics(models=["helpdesk"], version="v1")
accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
print(TestClient(app).get("/metrics", headers={"accept": accept}).text)
"""


@pytest.fixture(scope="module")
def shown() -> str:
    """Its page, without a model: the router and the registry are all that matters here."""
    python = SERVER / "bin" / "python"
    done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_metrics_of_a_replica_stand_beside_those_of_vllm(shown: str) -> None:
    requests = 'tunesmith_requests_total{model="helpdesk",outcome="complete",version="v1"} 0.0'

    assert requests in shown
    assert 'tunesmith_time_to_first_token_seconds_bucket{le="2.0",model="helpdesk"' in shown


def test_prometheus_is_shown_the_names_with_their_colon(shown: str) -> None:
    assert "\nvllm:num_requests_waiting 0.0" in shown


@pytest.mark.parametrize("name", [*VLLM_GAUGES, *VLLM_COUNTERS, *VLLM_HISTOGRAMS])
def test_vllm_has_the_metrics_of_the_dashboards(name: str) -> None:
    """Some were renamed before, and left whoever scraped them without data."""
    (source,) = SERVER.glob("lib/python3*/site-packages/vllm/v1/metrics/loggers.py")

    assert f'name="{name}"' in source.read_text(encoding="utf-8")
