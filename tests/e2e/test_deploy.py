"""`tunesmith deploy` with a real Envoy, whose replicas are stand-in engines.

Scenarios wait more than they compute, so all of them run at once before the first test looks.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest

from command import processes_of, wait_until
from drift_reference import write_reference
from laptop import NAME, TTFT_S, Laptop
from open_loop import Tally, traffic

RATE = 20.0
# A look of the executor, and the start of Envoy, beside nine other scenarios.
OUTAGE_S = 10.0


@dataclass
class Seen:
    """What a scenario leaves for its tests."""

    laptop: Laptop
    code: int | None = None
    tally: Tally = field(default_factory=Tally)
    said: dict[str, Any] = field(default_factory=dict)


Scenario = Callable[[Seen, Popen[bytes]], None]


def test_a_first_version_serves_and_a_second_is_promoted(promoted: Seen) -> None:
    assert promoted.laptop.stable() == "v2"
    assert promoted.laptop.condition("Ready")
    assert promoted.tally.problems() == {}
    assert set(promoted.tally.versions()) == {"v1", "v2"}


def test_the_status_tells_the_verdict_and_its_evidence(promoted: Seen) -> None:
    verdict = promoted.laptop.status()["lastVerdict"]

    assert (verdict["decision"], verdict["version"]) == ("promote", "v2")
    assert {row["metric"] for row in verdict["evidence"]} == {"errors", "incomplete", "ttftP50"}
    assert "promote" in promoted.said["status"]
    assert promoted.laptop.endpoint in promoted.said["status"]


def test_a_recording_replays_to_the_same_verdict(promoted: Seen, slow: Seen) -> None:
    for seen, code, decision in ((promoted, 0, "promote"), (slow, 1, "rollback")):
        (recording,) = seen.laptop.folder.glob("recordings/*.jsonl")
        replayed = seen.laptop.replay(recording)

        assert replayed.returncode == code
        assert replayed.json["verdict"]["decision"] == decision
        stored = seen.laptop.status()["lastVerdict"]
        assert replayed.json["verdict"]["evidence"][0]["harm"] == pytest.approx(
            stored["evidence"][0]["harm"], rel=1e-3
        )


def test_chat_shows_the_answer_and_its_version(promoted: Seen) -> None:
    answered = promoted.said["chat"]

    assert answered.returncode == 0
    assert len(answered.stdout.splitlines()) == 2
    assert "version v2" in answered.stderr


def test_ctrl_c_drains_and_leaves_nothing_running(promoted: Seen) -> None:
    assert promoted.code == 130
    assert processes_of(promoted.laptop.home) == []


def test_a_slow_version_is_rolled_back_by_the_judge(slow: Seen) -> None:
    assert slow.laptop.rejections() == {"v2": "AnalysisFailed"}
    assert slow.laptop.stable() == "v1"
    assert slow.laptop.condition("RolledBack")
    assert slow.laptop.status()["lastVerdict"]["metric"] == "ttftP50"
    assert slow.tally.problems() == {}


def test_a_version_with_errors_is_rolled_back_by_the_judge(erroring: Seen) -> None:
    assert erroring.laptop.rejections() == {"v2": "AnalysisFailed"}
    assert erroring.laptop.status()["lastVerdict"]["metric"] == "errors"
    assert set(erroring.tally.problems()) == {"status 500"}


def test_a_version_that_hangs_is_rolled_back(hanging: Seen) -> None:
    # By its answers that never came, or by its engine that had to be ended again and again.
    assert hanging.laptop.rejections()["v2"] in {"AnalysisFailed", "ReplicaCrashed"}
    assert hanging.laptop.stable() == "v1"


def test_a_version_that_crashes_is_rolled_back_before_the_judge_speaks(crashing: Seen) -> None:
    assert crashing.laptop.rejections() == {"v2": "ReplicaCrashed"}
    assert crashing.laptop.stable() == "v1"


def test_a_version_that_generates_nonsense_never_gets_a_request(nonsense: Seen) -> None:
    assert nonsense.laptop.rejections() == {"v2": "FingerprintMismatch"}
    assert set(nonsense.tally.versions()) == {"v1"}
    assert nonsense.tally.problems() == {}


def test_a_version_that_serve_refuses_is_rejected(refused: Seen) -> None:
    assert refused.laptop.rejections() == {"v2": "VersionUnusable"}
    assert refused.laptop.stable() == "v1"


def test_a_killed_deploy_is_gone_on_with(killed: Seen) -> None:
    # The replicas outlive it and are taken over: none of them was started again.
    assert killed.said["adopted"] == killed.said["before"]
    assert killed.laptop.stable() == "v2"
    (recording,) = killed.laptop.folder.glob("recordings/*.jsonl")
    replayed = killed.laptop.replay(recording)
    assert replayed.json["verdict"]["decision"] == "promote"
    assert processes_of(killed.laptop.home) == []


def test_a_killed_proxy_is_back_at_once_and_costs_no_version_its_trial(bereft: Seen) -> None:
    killed_at = bereft.said["killed at"]
    late = [o for o in bereft.tally.outcomes if o.problem and o.started > killed_at + OUTAGE_S]

    assert late == []
    assert [o for o in bereft.tally.outcomes if o.problem and o.started < killed_at - 5] == []
    assert bereft.laptop.stable() == "v2"
    assert bereft.laptop.rejections() == {}


def test_a_stable_version_that_answers_wrongly_makes_way_for_the_one_before(
    corrupted: Seen,
) -> None:
    laptop, told = corrupted.laptop, corrupted.said["mismatch"]

    assert laptop.stable() == "v1"
    assert laptop.rejections() == {"v2": "FingerprintMismatch"}
    assert told["artifact"]["version"] == "v2"
    assert told["artifact"]["mismatchedReplicas"] == 1
    assert told["artifact"]["worstNats"] == pytest.approx(3.0)
    # Quality after release: what was known to be said has become so much less likely.
    assert told["artifact"]["lossNats"] == pytest.approx(3.0)
    assert laptop.condition("RolledBack")


def test_traffic_unlike_the_training_data_is_told_with_its_signals(drifted: Seen) -> None:
    traffic = drifted.said["drift"]["traffic"]

    assert traffic["version"] == "v2"
    # Whichever of the prompt's signals has spoken first: status shows drift as soon as one has.
    assert {"promptScript", "promptWords"} & set(traffic["drifted"])
    assert {row["signal"] for row in traffic["signals"]} & set(traffic["drifted"])
    assert drifted.laptop.stable() == "v2"


def test_people_pause_promote_and_abort(steered: Seen) -> None:
    assert steered.said["paused"] == "Paused"
    assert steered.said["promoted"] == "v2"
    assert steered.laptop.rejections() == {"v3": "Aborted"}
    assert steered.laptop.stable() == "v2"
    assert steered.said["wrong"].returncode == 2
    assert "the candidate is v3" in steered.said["wrong"].stderr


def _promote(seen: Seen, deploy: Popen[bytes]) -> None:
    laptop = seen.laptop
    laptop.publish("v2")
    wait_until(lambda: laptop.stable() == "v2" and laptop.condition("Ready"), what="v2 alone")
    seen.said["status"] = laptop.run("rollout", "status", NAME).stdout
    seen.said["chat"] = laptop.run("chat", NAME, text="Hello?\nAgain.\n")


def _reject(**options: Any) -> Scenario:
    def run(seen: Seen, deploy: Popen[bytes]) -> None:
        laptop = seen.laptop
        laptop.publish("v2", **options)
        wait_until(lambda: bool(laptop.rejections()) and not laptop.candidate(), what="a rollback")

    return run


def _kill(seen: Seen, deploy: Popen[bytes]) -> None:
    """Killed where a candidate starts, where it is judged, and where stable drains."""
    laptop = seen.laptop
    laptop.publish("v2")
    wait_until(lambda: bool(laptop.candidate()), what="the candidate")
    _end_at_once(deploy)
    with laptop.deployed() as second:
        wait_until(lambda: laptop.candidate().get("state") == "Analyzing", what="the analysis")
        seen.said["before"] = laptop.engines()
        _end_at_once(second)
    with laptop.deployed() as third:
        wait_until(lambda: bool(laptop.status()["draining"]), what="the end of v1")
        seen.said["adopted"] = laptop.engines()
        _end_at_once(third)
    with laptop.deployed() as last:
        wait_until(lambda: laptop.condition("Ready"), what="v2 alone")
        last.send_signal(signal.SIGINT)
        last.wait(timeout=60)


def _bereave(seen: Seen, deploy: Popen[bytes]) -> None:
    """Its Envoy is killed while a candidate is judged."""
    laptop = seen.laptop
    laptop.publish("v2")
    wait_until(lambda: laptop.candidate().get("state") == "Analyzing", what="the analysis")
    (envoy,) = [pid for pid in processes_of(laptop.home) if _is_envoy(pid)]
    seen.said["killed at"] = time.monotonic()
    os.kill(envoy, signal.SIGKILL)
    wait_until(lambda: laptop.stable() == "v2" and laptop.condition("Ready"), what="v2 alone")


def _is_envoy(pid: int) -> bool:
    program, _, _ = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")
    return Path(program.decode()).name.startswith("envoy")


def _end_at_once(deploy: Popen[bytes]) -> None:
    deploy.send_signal(signal.SIGKILL)
    deploy.wait()


def _steer(seen: Seen, deploy: Popen[bytes]) -> None:
    laptop = seen.laptop
    laptop.publish("v2")
    wait_until(lambda: bool(laptop.candidate()), what="the candidate v2")
    laptop.run("rollout", "pause", NAME)
    wait_until(lambda: laptop.status()["phase"] == "Paused", what="the pause")
    seen.said["paused"] = laptop.status()["phase"]
    laptop.run("rollout", "promote", NAME, "v2")
    wait_until(lambda: laptop.stable() == "v2" and not laptop.candidate(), what="the promotion")
    seen.said["promoted"] = laptop.stable()
    # Slow to start, so that no verdict comes before the two commands, which a busy machine delays.
    laptop.publish("v3", **{"start-seconds": 30})
    wait_until(lambda: laptop.candidate().get("version") == "v3", what="the candidate v3")
    seen.said["wrong"] = laptop.run("rollout", "abort", NAME, "v2")
    laptop.run("rollout", "abort", NAME, "v3")
    wait_until(lambda: bool(laptop.rejections()), what="the end of v3")


def _corrupt(seen: Seen, deploy: Popen[bytes]) -> None:
    """Other weights under the engine of the version that serves."""
    laptop = seen.laptop
    laptop.publish("v2", **{"probe-seconds": 0.5})
    wait_until(lambda: laptop.stable() == "v2" and laptop.condition("Ready"), what="v2 alone")
    for port in laptop.ports(laptop.status()["stable"]["revision"]):
        httpx.post(f"http://127.0.0.1:{port}/faults", json={"nonsense": True}).raise_for_status()
    wait_until(lambda: laptop.condition("ArtifactMismatch"), what="the mismatch")
    seen.said["mismatch"] = laptop.status()["monitoring"]
    wait_until(lambda: laptop.stable() == "v1" and not laptop.candidate(), what="v1 again")
    wait_until(lambda: not laptop.condition("ArtifactMismatch"), what="rightful answers")


def _drift(seen: Seen, deploy: Popen[bytes]) -> None:
    """A version that learnt another language than it is asked in."""
    laptop = seen.laptop
    reference = write_reference(laptop.home.parent / "reference.json")
    laptop.publish("v2", reference=str(reference))
    wait_until(lambda: laptop.stable() == "v2", what="v2")
    wait_until(lambda: laptop.condition("DriftDetected"), what="the drift")
    seen.said["drift"] = laptop.status()["monitoring"]


SCENARIOS: dict[str, Scenario] = {
    "promoted": _promote,
    "slow": _reject(ttft=5 * TTFT_S),
    "erroring": _reject(errors=0.7),
    "hanging": _reject(hang=True, **{"progress-seconds": 2}),
    "crashing": _reject(crash=True),
    "nonsense": _reject(nonsense=True),
    "refused": _reject(refused=True),
    "killed": _kill,
    "corrupted": _corrupt,
    "drifted": _drift,
    "steered": _steer,
    "bereft": _bereave,
}


def _play(scenario: Scenario, folder: Path) -> Seen:
    folder.mkdir()
    seen = Seen(Laptop.of(folder))
    seen.laptop.write_manifest(monitoring={"onDrift": {"artifact": ["alert", "rollback"]}})
    seen.laptop.publish("v1")
    with seen.laptop.deployed() as deploy:
        wait_until(lambda: seen.laptop.condition("Ready"), what="the first version")
        with traffic(seen.laptop.endpoint, rate=RATE, timeout_s=5.0) as seen.tally:
            scenario(seen, deploy)
        if deploy.poll() is None:
            deploy.send_signal(signal.SIGINT)
            seen.code = deploy.wait(timeout=60)
    return seen


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Seen]]]:
    folder = tmp_path_factory.mktemp("laptops")
    with ThreadPoolExecutor(4) as executor:
        yield {
            name: executor.submit(_play, scenario, folder / name)
            for name, scenario in SCENARIOS.items()
        }


@pytest.fixture(scope="module")
def promoted(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["promoted"].result()


@pytest.fixture(scope="module")
def slow(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["slow"].result()


@pytest.fixture(scope="module")
def erroring(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["erroring"].result()


@pytest.fixture(scope="module")
def hanging(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["hanging"].result()


@pytest.fixture(scope="module")
def crashing(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["crashing"].result()


@pytest.fixture(scope="module")
def nonsense(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["nonsense"].result()


@pytest.fixture(scope="module")
def refused(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["refused"].result()


@pytest.fixture(scope="module")
def killed(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["killed"].result()


@pytest.fixture(scope="module")
def corrupted(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["corrupted"].result()


@pytest.fixture(scope="module")
def drifted(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["drifted"].result()


@pytest.fixture(scope="module")
def steered(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["steered"].result()


@pytest.fixture(scope="module")
def bereft(plays: dict[str, Future[Seen]]) -> Seen:
    return plays["bereft"].result()
