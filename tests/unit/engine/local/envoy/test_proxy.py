"""Traffic through the real Envoy: what it was told, what it does, and what it says that it does."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.local.envoy.config import Endpoint, routes_file
from tunesmith_engine.local.envoy.proxy import Envoy, ProxyError
from tunesmith_engine.stages.reporter import write_atomically
from upstreams import Upstream, upstream

OLD, NEW = "0000000a", "0000000b"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Client:
    """One connection to Envoy."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self, conversation: str = "", path: str = "/v1/chat/completions") -> tuple[int, str]:
        headers = {"x-conversation-id": conversation} if conversation else {}
        self.connection.request("POST", path, body=b"{}", headers=headers)
        response = self.connection.getresponse()
        body = response.read()
        return response.status, json.loads(body).get("from", "") if body.startswith(b"{") else ""


Proxied = tuple[Envoy, Client]
Pair = tuple[Upstream, Upstream]


@pytest.fixture
def replicas() -> Iterator[Pair]:
    with upstream("old") as old, upstream("new") as new:
        yield old, new


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[Proxied]:
    port = free_port()
    process = Envoy(tmp_path, port=port, admin_port=free_port())
    process.start()
    yield process, Client(port)
    process.stop()


def endpoints(old: Upstream, new: Upstream) -> dict[str, list[Endpoint]]:
    return {OLD: [old.endpoint], NEW: [new.endpoint]}


def test_the_split_is_the_one_asked_for_and_is_read_back(envoy: Proxied, replicas: Pair) -> None:
    process, client = envoy
    route = Route({NEW: 10, OLD: 90})
    process.apply(route, endpoints(*replicas))

    counted = Counter(client.ask()[1] for _ in range(1000))
    state = process.observe()

    assert state.in_use == route
    # Five standard deviations of a binomial.
    assert 52 <= counted["new"] <= 148
    assert state.requests == {NEW: counted["new"], OLD: counted["old"]}
    assert state.achieved[NEW] == pytest.approx(counted["new"] / 10)


def test_a_conversation_moves_to_the_candidate_and_never_back(
    envoy: Proxied, replicas: Pair
) -> None:
    process, client = envoy
    conversations = [f"c{number}" for number in range(300)]
    moved: set[str] = set()
    for weight in (0, 5, 25, 50, 100):
        weights = {NEW: weight, OLD: 100 - weight}
        process.apply(Route({name: part for name, part in weights.items() if part}),
                      endpoints(*replicas))  # fmt: skip

        now = {name for name in conversations if client.ask(name)[1] == "new"}

        assert moved <= now
        assert len(now) == pytest.approx(3 * weight, abs=45)
        moved = now


def test_only_the_api_of_openai_is_exposed(envoy: Proxied, replicas: Pair) -> None:
    process, client = envoy
    process.apply(Route({OLD: 100}), endpoints(*replicas))

    for path in ("/metrics", "/tunesmith/samples", "/sleep", "/health", "/v1/../metrics"):
        assert client.ask(path=path)[0] == 404, path
    assert client.ask()[0] == 200


def test_copies_go_to_the_candidate_and_nobody_waits_for_them(
    envoy: Proxied, replicas: Pair
) -> None:
    process, client = envoy
    old, new = replicas
    new.delay_seconds = 2.0
    process.apply(Route({OLD: 100}, mirror=NEW, mirror_percent=100), endpoints(old, new))

    began = time.monotonic()
    answers = {client.ask() for _ in range(20)}

    assert answers == {(200, "old")}
    assert time.monotonic() - began < 1.5
    deadline = time.monotonic() + 5
    while len(new.seen) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(new.seen) == 20
    state = process.observe()
    assert state.requests == {OLD: 20, NEW: 0}
    assert state.active[NEW] > 0


def test_changes_under_load_lose_nothing(envoy: Proxied, replicas: Pair) -> None:
    process, client = envoy
    for replica in replicas:
        replica.delay_seconds = 0.01
    process.apply(Route({OLD: 100}), endpoints(*replicas))
    answers: list[tuple[int, str]] = []
    is_over = threading.Event()

    def ask() -> None:
        mine = Client(client.port)
        while not is_over.is_set():
            answers.append(mine.ask())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for name in (NEW, OLD) * 5:
        process.apply(Route({name: 100}), endpoints(*replicas))
        time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join()

    assert len(answers) > 100
    assert {status for status, _ in answers} == {200}
    assert {name for _, name in answers} == {"old", "new"}


def test_without_a_version_clients_are_told_to_come_back(envoy: Proxied) -> None:
    _, client = envoy

    client.connection.request("POST", "/v1/chat/completions", body=b"{}")
    response = client.connection.getresponse()

    assert response.status == 503
    assert response.getheader("retry-after") == "1"
    assert "no version" in json.loads(response.read())["error"]["message"]


def test_a_replica_that_is_not_ready_gets_nothing(envoy: Proxied, replicas: Pair) -> None:
    process, client = envoy
    old, new = replicas
    new.is_ready = False
    process.apply(Route({OLD: 100}), {OLD: [old.endpoint, new.endpoint]})

    assert {client.ask() for _ in range(30)} == {(200, "old")}


def test_routes_that_are_refused_are_not_believed(
    envoy: Proxied, replicas: Pair, tmp_path: Path
) -> None:
    process, client = envoy
    process.apply(Route({OLD: 100}), endpoints(*replicas))
    broken = json.loads(routes_file(tmp_path).read_text())
    broken["version_info"] = "broken"
    broken["resources"][0]["virtual_hosts"][0]["domains"] = []
    write_atomically(routes_file(tmp_path), json.dumps(broken))
    deadline = time.monotonic() + 5
    while not process.observe().is_refused and time.monotonic() < deadline:
        time.sleep(0.05)

    state = process.observe()

    assert state.is_refused
    assert "Domains" in (tmp_path / "envoy.log").read_text()
    assert state.in_use == Route({OLD: 100})
    assert client.ask() == (200, "old")


def test_a_crash_is_seen_and_a_new_start_serves_again(envoy: Proxied, replicas: Pair) -> None:
    process, client = envoy
    process.apply(Route({OLD: 100}), endpoints(*replicas))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.2)

    assert not process.observe().is_running
    process.start()
    assert process.observe().in_use == Route()
    process.apply(Route({OLD: 100}), endpoints(*replicas))
    assert Client(client.port).ask() == (200, "old")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = Envoy(tmp_path, port=taken.getsockname()[1], admin_port=free_port())
        with pytest.raises(ProxyError, match="port"):
            process.start()
