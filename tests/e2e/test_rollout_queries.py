"""The user's own PromQL in a rollout on one machine, with a real Prometheus and a real Envoy."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from command import wait_until
from laptop import ANALYSIS, Laptop
from open_loop import traffic
from prometheus_server import PrometheusServer, prometheus
from tunesmith_engine.monitoring.prometheus import Prometheus

QUERIES = [
    {
        "name": "thumbsDown",
        "query": 'avg(thumbs_down_ratio{version="{{version}}", deployment="{{deployment}}"})',
        "minimumEffect": 0.1,
        "consecutive": 2,
    }
]


@pytest.fixture(scope="module")
def thumbs() -> Iterator[tuple[Gauge, int]]:
    """What an application of the user's counts of each version, and the port of its metrics."""
    registry = CollectorRegistry()
    gauge = Gauge("thumbs_down_ratio", "Of answers.", ("version", "deployment"), registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry=registry)
    yield gauge, server.server_port
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, thumbs: tuple[Gauge, int]
) -> Iterator[PrometheusServer]:
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, targets={thumbs[1]: {}}, groups=[]) as running:
        yield running


def test_a_real_prometheus_gives_numbers_and_reasons(
    server: PrometheusServer, thumbs: tuple[Gauge, int]
) -> None:
    thumbs[0].labels("v0", "a").set(0.25)
    thumbs[0].labels("v0", "b").set(float("nan"))
    wait_until(lambda: len(server.query("thumbs_down_ratio")) == 2, what="a scrape")
    there = Prometheus.at(f"http://127.0.0.1:{server.port}")

    answers = there.ask_all(
        [
            'thumbs_down_ratio{deployment="a"}',
            'thumbs_down_ratio{deployment="b"}',
            "thumbs_down_ratio",
            "nothing",
            "rate(",
            "1 + 1",
            "thumbs_down_ratio[1m]",
        ]
    )

    assert answers == [
        0.25,
        "NotANumber",
        "SeveralSeries",
        "NoData",
        "BadQuery",
        2.0,
        "BadQuery",
    ]


def test_a_candidate_that_its_users_dislike_is_rolled_back(
    tmp_path: Path, server: PrometheusServer, thumbs: tuple[Gauge, int]
) -> None:
    laptop = _laptop(tmp_path)
    thumbs[0].labels("v1", "desk").set(0.1)
    thumbs[0].labels("v2", "desk").set(0.4)

    with laptop.deployed("--prometheus", f"http://127.0.0.1:{server.port}") as deploy:
        with _rolled_out(laptop):
            wait_until(lambda: bool(laptop.rejections()), what="a rollback")
        deploy.send_signal(signal.SIGINT)
        deploy.wait(timeout=60)

    verdict = laptop.status()["lastVerdict"]
    assert laptop.rejections() == {"v2": "AnalysisFailed"}
    assert verdict["cause"] == "QueryWorse"
    assert verdict["queries"] == [
        {"query": "thumbsDown", "state": "bad", "stable": 0.1, "candidate": 0.4}
    ]
    (recording,) = laptop.folder.glob("recordings/*.jsonl")
    replayed = laptop.replay(recording)
    assert (replayed.returncode, replayed.json["verdict"]["cause"]) == (1, "QueryWorse")


def test_a_candidate_of_whom_nothing_is_known_is_not_promoted(
    tmp_path: Path, server: PrometheusServer, thumbs: tuple[Gauge, int]
) -> None:
    laptop = _laptop(tmp_path)
    thumbs[0].labels("v1", "desk").set(0.1)
    thumbs[0].remove("v2", "desk")
    wait_until(lambda: not server.query('thumbs_down_ratio{version="v2"}'), what="its end")

    with laptop.deployed("--prometheus", f"http://127.0.0.1:{server.port}"), _rolled_out(laptop):
        wait_until(lambda: _verdict(laptop).get("cause") == "QueryPending", what="the wait")
        assert "NoData" in _verdict(laptop)["message"]
        thumbs[0].labels("v2", "desk").set(0.1)
        wait_until(lambda: laptop.stable() == "v2", what="the promotion")


def test_queries_without_a_prometheus_are_refused(tmp_path: Path) -> None:
    laptop = _laptop(tmp_path)

    done = laptop.run("deploy", str(laptop.manifest))

    assert done.returncode == 2
    assert "give --prometheus http://HOST:PORT" in done.stderr


@contextmanager
def _rolled_out(laptop: Laptop) -> Iterator[None]:
    """A second version on trial, with requests."""
    wait_until(lambda: laptop.condition("Ready"), what="the first version")
    with traffic(laptop.endpoint, rate=20.0, timeout_s=5.0):
        laptop.publish("v2")
        yield


def _verdict(laptop: Laptop) -> dict[str, Any]:
    return laptop.status().get("lastVerdict") or {}


def _laptop(folder: Path) -> Laptop:
    laptop = Laptop.of(folder)
    analysis = {**ANALYSIS, "queries": QUERIES, "querySeconds": 1}
    laptop.write_manifest(rollout={"analysis": analysis})
    laptop.publish("v1")
    return laptop
