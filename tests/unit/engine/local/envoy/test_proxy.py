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
from typing import Any

import pytest

from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.deployment.request_identity import STICKY_HEADERS
from tunesmith_engine.local.deployment.proxy import EnvoyProxy
from tunesmith_engine.local.envoy.config import Endpoint, routes, routes_file
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

    def ask(
        self,
        conversation: str = "",
        path: str = "/v1/chat/completions",
        *,
        key: str = "",
        body: bytes = b"{}",
    ) -> tuple[int, str]:
        headers = {"x-conversation-id": conversation} if conversation else {}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self.connection.request("POST", path, body=body, headers=headers)
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


def test_a_route_whose_clusters_are_refused_is_not_used(
    envoy: Proxied, replicas: Pair, tmp_path: Path
) -> None:
    process, client = envoy
    old, new = replicas
    process.apply(Route({OLD: 100}), endpoints(old, new))
    # A cluster of addresses cannot look a name up.
    by_name = {OLD: [old.endpoint], NEW: [Endpoint("localhost", new.port)]}

    process.apply(Route({NEW: 50, OLD: 50}), by_name)
    state = process.observe()

    assert state.is_refused
    assert "localhost" in (tmp_path / "envoy.log").read_text()
    assert state.in_use == Route({OLD: 100})
    assert {client.ask() for _ in range(30)} == {(200, "old")}

    process.apply(Route({NEW: 50, OLD: 50}), endpoints(old, new))
    state = process.observe()
    assert not state.is_refused
    assert state.in_use == Route({NEW: 50, OLD: 50})
    assert {client.ask() for _ in range(30)} == {(200, "old"), (200, "new")}


def test_what_is_under_way_outlives_its_route_and_its_cluster(
    envoy: Proxied, replicas: Pair
) -> None:
    process, client = envoy
    old, new = replicas
    old.delay_seconds = 1.0
    process.apply(Route({OLD: 100}), endpoints(old, new))
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: answers.append(Client(client.port).ask()))
    thread.start()
    deadline = time.monotonic() + 5
    while not old.seen and time.monotonic() < deadline:
        time.sleep(0.01)

    # The second time the cluster of the old revision goes, too.
    process.apply(Route({NEW: 100}), endpoints(old, new))
    assert process.observe().active[OLD] == 1
    process.apply(Route({NEW: 100}), endpoints(old, new))
    assert client.ask() == (200, "new")
    assert not answers
    thread.join()

    assert answers == [(200, "old")]


def test_an_api_key_stays_with_its_version(tmp_path: Path, replicas: Pair) -> None:
    port = free_port()
    process = Envoy(tmp_path, port=port, admin_port=free_port(), sticky="apiKey")
    process.start()
    try:
        process.apply(Route({NEW: 50, OLD: 50}), endpoints(*replicas))
        client = Client(port)
        by_key = [{client.ask(key=f"k{number}") for _ in range(5)} for number in range(40)]
    finally:
        process.stop()

    assert all(len(answers) == 1 for answers in by_key)
    assert set.union(*by_key) == {(200, "old"), (200, "new")}


def test_the_proxy_of_a_deployment_sticks_as_it_is_told(tmp_path: Path, replicas: Pair) -> None:
    ports = {name: [at.port for at in places] for name, places in endpoints(*replicas).items()}
    port = free_port()
    proxy = EnvoyProxy(tmp_path, port=port, sticky="none")
    proxy.start()
    try:
        # `advance` names stable first.
        proxy.apply(Route({OLD: 50, NEW: 50}), ports)
        client = Client(port)
        answers = {client.ask(conversation="same") for _ in range(60)}
    finally:
        proxy.stop()

    assert answers == {(200, "old"), (200, "new")}


def test_a_key_in_either_header_stays_with_its_version() -> None:
    policies = {
        sticky: _hash_policy(routes(Route({NEW: 50, OLD: 50}), sticky=sticky))
        for sticky in STICKY_HEADERS
    }

    assert policies == {
        "conversation": ["x-conversation-id"],
        "apiKey": ["authorization", "x-api-key"],
        "none": [],
    }


def test_a_request_beyond_all_measure_is_refused(envoy: Proxied, replicas: Pair) -> None:
    process, client = envoy
    old, new = replicas
    process.apply(Route({OLD: 100}, mirror=NEW, mirror_percent=100), endpoints(old, new))

    # Images in base64: more than Envoy holds of a request by default, and copied all the same.
    assert client.ask(body=b"x" * (4 * 2**20))[0] == 200
    assert client.ask(body=b"x" * (64 * 2**20 + 1))[0] == 413
    assert len(old.seen) == 1
    deadline = time.monotonic() + 5
    while not new.seen and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(new.seen) == 1


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


def _hash_policy(content: dict[str, Any]) -> list[str]:
    (route,) = content["resources"][0]["virtual_hosts"][0]["routes"]
    return [policy["header"]["header_name"] for policy in route["route"].get("hash_policy", ())]
