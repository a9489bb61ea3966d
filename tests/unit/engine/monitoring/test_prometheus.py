"""A number from Prometheus, or one word why there is none, in bounded bytes and time."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.modeldeployment.queries import QueryProblem
from tunesmith_api.modeldeployment.status import RevisionStatus
from tunesmith_engine.monitoring import prometheus
from tunesmith_engine.monitoring.prometheus import Prometheus, number_in
from tunesmith_engine.monitoring.query_reader import QueryReader
from tunesmith_engine.rollout.samples import Arm


def answer(kind: str, result: Any) -> bytes:
    return json.dumps(
        {"status": "success", "data": {"resultType": kind, "result": result}}
    ).encode()


@contextmanager
def server(*, status: int = 200, body: bytes = b"", drip_s: float = 0.0) -> Iterator[str]:
    """Answers every question alike; with `drip_s`, byte by byte."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            asked.append(parse_qs(self.rfile.read(length).decode())["query"][0])
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            size = 1 if drip_s else len(body)
            # Whoever asked may have had enough.
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(body), size):
                    self.wfile.write(body[start : start + size])
                    time.sleep(drip_s)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (answer("vector", [{"metric": {}, "value": [1, "0.25"]}]), 0.25),
        (answer("scalar", [1, "-3"]), -3.0),
        (answer("vector", []), QueryProblem.NO_DATA),
        (answer("vector", [{"value": [1, "1"]}] * 2), QueryProblem.SEVERAL_SERIES),
        (answer("vector", [{"value": [1, "NaN"]}]), QueryProblem.NOT_A_NUMBER),
        (answer("vector", [{"value": [1, "+Inf"]}]), QueryProblem.NOT_A_NUMBER),
        (answer("matrix", []), QueryProblem.BAD_QUERY),
        (answer("vector", [{"value": 1}]), QueryProblem.REFUSED),
        (b"<html>Sign in</html>", QueryProblem.REFUSED),
        (b"[]", QueryProblem.REFUSED),
        (b"\xff", QueryProblem.REFUSED),
    ],
)
def test_one_number_is_read(content: bytes, expected: float | QueryProblem) -> None:
    assert number_in(content) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, QueryProblem.BAD_QUERY),
        (422, QueryProblem.BAD_QUERY),
        (401, QueryProblem.REFUSED),
        (302, QueryProblem.REFUSED),
        (503, QueryProblem.REFUSED),
    ],
)
def test_what_is_refused_is_told_from_a_wrong_query(status: int, expected: QueryProblem) -> None:
    with server(status=status, body=answer("scalar", [1, "1"])) as url:
        assert Prometheus.at(url).ask("up") is expected


def test_nobody_who_answers_is_unreachable() -> None:
    assert Prometheus.at("http://127.0.0.1:1").ask("up") is QueryProblem.UNREACHABLE


def test_an_answer_that_is_too_long_is_none() -> None:
    with server(body=b" " * (1 << 20)) as url:
        assert Prometheus.at(url).ask("up") is QueryProblem.UNREACHABLE


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.2)
    began = time.monotonic()
    with server(body=b" " * 1000, drip_s=0.05) as url:
        assert Prometheus.at(url).ask("up") is QueryProblem.UNREACHABLE

    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "prometheus:9090",
        "ftp://prometheus",
        "http://",
        "http://host:x",
        "http://user:secret@host",
        "http://host/?token=secret",
    ],
)
def test_only_a_plain_address_is_taken(url: str) -> None:
    with pytest.raises(ValueError, match=r"Prometheus|[Pp]ort") as raised:
        Prometheus.at(url)

    assert "secret" not in str(raised.value)


def test_each_version_is_asked_for_and_a_path_is_kept() -> None:
    queries = [{"name": "thumbs", "query": '{{role}}{v="{{version}}"}', "minimumEffect": 1}]
    limits = Limits.model_validate({"queries": queries})
    arms = {arm: _revision(arm.value[0] + "1") for arm in Arm}
    with server(body=answer("scalar", [1, "2"])) as url:
        there = Prometheus.at(f"{url}/prometheus/")
        reader = QueryReader.of(limits, prometheus=there, arms=arms, deployment="desk")
        (reading,) = reader.readings(reader.answers(), now=7.0)

    assert (reading.stable, reading.candidate, reading.problem) == (2.0, 2.0, None)
    assert (reader.is_due(36.0), reader.is_due(37.0)) == (False, True)


def test_without_a_prometheus_every_reading_says_so() -> None:
    queries = [{"name": "thumbs", "query": "{{role}}", "minimumEffect": 1}]
    limits = Limits.model_validate({"queries": queries})
    arms = {arm: _revision("v1") for arm in Arm}
    reader = QueryReader.of(limits, prometheus=None, arms=arms, deployment="desk")

    (reading,) = reader.readings(reader.answers(), now=7.0)

    assert reading.problem is QueryProblem.NO_PROMETHEUS


def _revision(version: str) -> RevisionStatus:
    return RevisionStatus.model_validate(
        {
            "revision": "0000aaaa",
            "version": version,
            "digest": "sha256:0",
            "uri": "file:///models",
            "since": "2026-11-27T10:00:00Z",
        }
    )
