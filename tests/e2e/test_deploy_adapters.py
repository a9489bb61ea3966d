"""`tunesmith deploy` of adapters on one base, with a real Envoy and a stand-in engine.

All versions are served by one process. Scenarios run at once before the first test looks.
"""

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from command import processes_of, wait_until
from laptop import MODEL, TTFT_S, Laptop
from open_loop import Tally, traffic
from tunesmith_engine.deployment.adapter_list import REVISION_HEADER

RATE = 20.0


@dataclass
class Seen:
    """What a scenario leaves for its tests."""

    laptop: Laptop
    tally: Tally = field(default_factory=Tally)
    said: dict[str, Any] = field(default_factory=dict)


def test_an_adapter_takes_over_in_the_same_process_and_nothing_is_lost(promoted: Seen) -> None:
    assert promoted.laptop.stable() == "v2"
    assert promoted.said["engines"] == [promoted.said["first"]] * 3
    assert promoted.tally.problems() == {}
    assert set(promoted.tally.versions()) == {"v1", "v2"}


def test_the_adapter_that_is_left_is_unloaded_after_its_drain(promoted: Seen) -> None:
    assert [told["revision"] for told in promoted.said["state"]["adapters"]] == [
        promoted.said["status"]["stable"]["revision"]
    ]
    assert promoted.said["status"]["replicas"] == 1


def test_clients_know_one_name_and_cannot_choose_a_version(promoted: Seen) -> None:
    assert promoted.said["models"] == [MODEL]
    assert promoted.said["named"] == MODEL
    assert promoted.said["chosen"] == "v2"
    assert promoted.said["internal"] == 404
    assert promoted.said["closed"] == [404, 404]


def test_adapters_are_loaded_again_after_a_crash(restarted: Seen) -> None:
    assert restarted.said["after"] != restarted.said["before"]
    assert restarted.laptop.stable() == "v1"


def test_a_slow_adapter_is_rolled_back_by_the_judge(slow: Seen) -> None:
    assert slow.laptop.rejections() == {"v2": "AnalysisFailed"}
    assert slow.laptop.stable() == "v1"
    assert slow.tally.problems() == {}


def test_an_adapter_that_answers_wrongly_never_gets_a_request(wrong: Seen) -> None:
    assert wrong.laptop.rejections() == {"v2": "FingerprintMismatch"}
    assert set(wrong.tally.versions()) == {"v1"}
    assert wrong.tally.problems() == {}


def test_a_merged_version_is_not_served_among_adapters(merged: Seen) -> None:
    assert merged.laptop.stable() == "v1"
    assert not merged.laptop.candidate()


def _promote(seen: Seen) -> None:
    laptop = seen.laptop
    engines = [seen.said["first"]]
    laptop.publish_adapter("v2")
    wait_until(lambda: laptop.candidate().get("state") == "Analyzing", what="the analysis")
    engines.append(laptop.engines())
    wait_until(lambda: laptop.stable() == "v2" and laptop.condition("Ready"), what="v2 alone")
    engines.append(laptop.engines())
    seen.said["engines"] = engines
    seen.said["status"] = laptop.status()
    wait_until(lambda: len(_state(laptop)["adapters"]) == 1, what="v1 unloaded")
    seen.said["state"] = _state(laptop)
    port = laptop.port
    seen.said["models"] = [card["id"] for card in _ask(port, "GET", "/v1/models").json["data"]]
    answer = _ask(port, "POST", "/v1/completions", {"prompt": [1], "max_tokens": 2})
    seen.said["named"] = answer.json["model"]
    asked = {"model": MODEL, "prompt": [1], "max_tokens": 2}
    headers = {REVISION_HEADER: "00000000"}
    seen.said["chosen"] = _ask(port, "POST", "/v1/completions", asked, headers).version
    revision = seen.said["status"]["stable"]["revision"]
    internal = {**asked, "model": f"{MODEL}@{revision}"}
    seen.said["internal"] = _ask(port, "POST", "/v1/completions", internal).status
    seen.said["closed"] = [
        _ask(port, "POST", f"/v1/{path}_lora_adapter", {"lora_name": "x", "lora_path": "/"}).status
        for path in ("load", "unload")
    ]


def _restart(seen: Seen) -> None:
    (pid,) = seen.said["first"].values()
    seen.said["before"] = [pid]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not seen.laptop.condition("Ready"), what="the crash")
    wait_until(lambda: seen.laptop.condition("Ready"), what="the adapter again")
    seen.said["after"] = list(seen.laptop.engines().values())


def _reject(**options: Any) -> Callable[[Seen], None]:
    def run(seen: Seen) -> None:
        laptop = seen.laptop
        laptop.publish_adapter("v2", **options)
        wait_until(lambda: bool(laptop.rejections()) and not laptop.candidate(), what="a rollback")

    return run


def _merged(seen: Seen) -> None:
    seen.laptop.publish("v2")
    before = len(seen.tally.outcomes)
    wait_until(lambda: len(seen.tally.outcomes) > before + 60, what="three seconds of requests")


SCENARIOS: dict[str, Callable[[Seen], None]] = {
    "promoted": _promote,
    "restarted": _restart,
    "slow": _reject(ttft=5 * TTFT_S),
    "wrong": _reject(nonsense=True),
    "merged": _merged,
}


def _play(scenario: Callable[[Seen], None], folder: Path) -> Seen:
    folder.mkdir()
    seen = Seen(Laptop.of(folder))
    seen.laptop.write_manifest(adapters={"maxLoras": 2})
    seen.laptop.publish_adapter("v1")
    with seen.laptop.deployed() as deploy:
        wait_until(lambda: seen.laptop.condition("Ready"), what="the first version")
        seen.said["first"] = seen.laptop.engines()
        with traffic(seen.laptop.endpoint, rate=RATE, timeout_s=5.0) as seen.tally:
            scenario(seen)
        deploy.send_signal(signal.SIGINT)
        deploy.wait(timeout=60)
    assert processes_of(seen.laptop.home) == []
    return seen


@dataclass(frozen=True)
class Answer:
    status: int
    version: str | None
    json: Any


def _ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, headers or {})
        response = connection.getresponse()
        version = response.headers.get("x-tunesmith-version")
        return Answer(response.status, version, json.loads(response.read()))
    finally:
        connection.close()


def _state(laptop: Laptop) -> dict[str, Any]:
    """What the one replica says of itself."""
    (record,) = laptop.folder.glob("replicas/*/process.json")
    port = json.loads(record.read_text())["port"]
    state: dict[str, Any] = _ask(port, "GET", "/tunesmith/state").json
    return state


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Seen]]]:
    folder = tmp_path_factory.mktemp("laptops")
    with ThreadPoolExecutor(3) as executor:
        yield {
            name: executor.submit(_play, scenario, folder / name)
            for name, scenario in SCENARIOS.items()
        }


@pytest.fixture(scope="module")
def promoted(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["promoted"].result()


@pytest.fixture(scope="module")
def restarted(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["restarted"].result()


@pytest.fixture(scope="module")
def slow(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["slow"].result()


@pytest.fixture(scope="module")
def wrong(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["wrong"].result()


@pytest.fixture(scope="module")
def merged(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["merged"].result()
