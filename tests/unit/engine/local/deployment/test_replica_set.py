"""Replicas as processes: started, found again, drained, ended. The engines are `sleep`."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith_engine.deployment.observations import DesiredRevision, ReplicaState, Route
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.local.deployment import replica_process
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder, ReplicaFolder
from tunesmith_engine.local.deployment.replica_process import Launch
from tunesmith_engine.local.deployment.replica_set import ReplicaSet
from tunesmith_engine.local.process_table import MARKER, find_processes

REVISION = "0a0a0a0a"
IN_USE = Route({REVISION: 100})


class Engines:
    """What the engines say of themselves, and what they were told; all is one clock's."""

    def __init__(self, folder: DeploymentFolder) -> None:
        self.folder = folder
        self.command = ["sleep", "60"]
        self.now = 0.0
        self.report: ReplicaReport | None = _report()
        self.told_to_drain: list[int] = []
        self.sets: list[ReplicaSet] = []

    def open(self) -> ReplicaSet:
        """As a process of its own would."""
        replicas = ReplicaSet(
            self.folder,
            launcher=lambda _, folder, *__: self._launch(folder),
            drain_s=30.0,
            clock=lambda: self.now,
        )
        replicas.recover()
        self.sets.append(replicas)
        return replicas

    def running(self) -> int:
        return len(find_processes(self.folder.replicas))

    def wait_for_end(self, num_running: int) -> None:
        deadline = time.monotonic() + 5
        while self.running() > num_running and time.monotonic() < deadline:
            time.sleep(0.01)

    def _launch(self, folder: ReplicaFolder) -> Launch:
        return Launch(self.command, {**os.environ, MARKER: str(folder.path)})


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    made = Engines(DeploymentFolder(tmp_path / "deployments" / "desk"))
    monkeypatch.setattr(replica_process, "read_state", lambda _: made.report)
    monkeypatch.setattr(replica_process, "start_draining", made.told_to_drain.append)
    yield made
    for replicas in made.sets:
        replicas.close()


def test_what_is_missing_is_started_once(engines: Engines) -> None:
    replicas = engines.open()
    for _ in range(2):
        replicas.apply([_wanted(2)], in_use=IN_USE)

    states = replicas.observe()

    assert [state.name for state in states] == [f"{REVISION}-0", f"{REVISION}-1"]
    assert all(state.is_ready for state in states)
    assert engines.running() == 2
    assert len(replicas.ports()[REVISION]) == 2


def test_what_a_killed_run_has_left_is_taken_over(engines: Engines) -> None:
    first = engines.open()
    first.apply([_wanted()], in_use=IN_USE)
    before = first.ports()

    second = engines.open()
    second.apply([_wanted()], in_use=IN_USE)

    assert second.ports() == before
    assert engines.running() == 1


def test_a_process_that_nobody_wrote_down_is_ended(engines: Engines) -> None:
    engines.open().apply([_wanted()], in_use=IN_USE)
    engines.folder.replica(REVISION, 0).forget()

    engines.open()

    assert engines.running() == 0


def test_a_crash_is_counted_and_started_again_after_a_pause(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)
    _kill_all(engines)

    (crashed,) = _look(replicas, engines)
    assert (crashed.is_ready, crashed.restarts) == (False, 0)
    assert "exit code -9" in crashed.message
    replicas.apply([_wanted()], in_use=IN_USE)
    assert engines.running() == 0

    engines.now += 2.0
    replicas.apply([_wanted()], in_use=IN_USE)
    (again,) = replicas.observe()
    assert (again.is_ready, again.restarts) == (True, 1)


def test_a_version_that_serve_refuses_twice_is_a_failure(engines: Engines) -> None:
    engines.command = ["sh", "-c", "exit 2"]
    replicas = engines.open()
    seen: list[ReplicaState] = []
    for _ in range(2):
        replicas.apply([_wanted()], in_use=IN_USE)
        seen += _look(replicas, engines)
        engines.now += 5.0

    assert [state.failure for state in seen] == [None, "VersionUnusable"]


def test_wrong_answers_are_a_failure_at_once(engines: Engines) -> None:
    engines.report = _report(ready=False, reason="FingerprintMismatch", message="3 of 5 differ")
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)

    (state,) = replicas.observe()

    assert (state.is_ready, state.failure) == (False, "FingerprintMismatch")
    assert state.message == "3 of 5 differ"


def test_an_engine_that_hangs_is_ended_and_started_again(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)
    engines.report = _report(ready=False, reason="NoProgress", message="no token for 120 s")
    replicas.observe()

    replicas.apply([_wanted()], in_use=IN_USE)

    assert engines.running() == 0
    (state,) = replicas.observe()
    assert "it hung: no token for 120 s" in state.message


def test_an_engine_that_somebody_else_told_to_drain_is_replaced(engines: Engines) -> None:
    engines.open().apply([_wanted()], in_use=IN_USE)
    engines.report = _report(ready=False, reason="Draining", draining=True)
    after = engines.open()
    after.observe()

    after.apply([_wanted()], in_use=IN_USE)

    assert [state.is_stopping for state in after.observe()] == [True]


def test_draining_begins_when_the_proxy_has_let_go(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)
    draining = _wanted(is_draining=True)

    for in_use in (None, IN_USE):
        replicas.apply([draining], in_use=in_use)
    assert engines.told_to_drain == []

    replicas.apply([draining], in_use=Route())
    assert len(engines.told_to_drain) == 1
    assert engines.running() == 1


def test_a_draining_engine_that_ends_is_not_started_again(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)
    _kill_all(engines)
    _look(replicas, engines)

    replicas.apply([_wanted(is_draining=True)], in_use=Route())

    assert replicas.observe() == ()


def test_one_replica_too_many_ends_when_it_is_idle(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted(2)], in_use=IN_USE)
    engines.report = _report(running=1)
    for _ in range(3):
        replicas.apply([_wanted(1)], in_use=IN_USE)
        states = replicas.observe()
    assert [state.is_stopping for state in states] == [False, True]
    assert len(replicas.ports()[REVISION]) == 1

    engines.report = _report()
    replicas.observe()
    replicas.apply([_wanted(1)], in_use=IN_USE)
    engines.wait_for_end(1)
    assert engines.running() == 1


def test_patience_ends_with_the_drain(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)
    engines.report = _report(running=1)
    replicas.observe()
    replicas.end_all()
    assert engines.running() == 1

    engines.now += 31.0
    replicas.end_all()
    engines.wait_for_end(0)

    assert engines.running() == 0


def test_a_revision_that_comes_back_from_its_drain_gets_a_new_engine(engines: Engines) -> None:
    replicas = engines.open()
    replicas.apply([_wanted()], in_use=IN_USE)
    replicas.apply([_wanted(is_draining=True)], in_use=Route())
    before = engines.folder.replica(REVISION, 0).read()
    replicas.apply([_wanted()], in_use=Route())
    deadline = time.monotonic() + 5
    while not replicas.observe()[0].is_ready and time.monotonic() < deadline:
        replicas.apply([_wanted()], in_use=Route())
        time.sleep(0.01)

    after = engines.folder.replica(REVISION, 0).read()

    assert before
    assert after
    assert before.identity != after.identity
    assert replicas.observe()[0].is_ready


def _wanted(replicas: int = 1, *, is_draining: bool = False) -> DesiredRevision:
    return DesiredRevision(
        revision=REVISION,
        version="v1",
        digest="d",
        uri="file:///v1",
        replicas=replicas,
        is_draining=is_draining,
    )


def _report(
    *,
    ready: bool = True,
    reason: str = "Ready",
    message: str = "",
    running: int = 0,
    draining: bool = False,
) -> ReplicaReport:
    return ReplicaReport(
        revision=REVISION,
        instance="i",
        ready=ready,
        draining=draining,
        reason=reason,
        message=message,
        running=running,
        accepted=0,
        quiet_seconds=9.0,
    )


def _kill_all(engines: Engines) -> None:
    for identity in find_processes(engines.folder.replicas):
        os.kill(identity.pid, signal.SIGKILL)
    engines.wait_for_end(0)


def _look(replicas: ReplicaSet, engines: Engines) -> tuple[ReplicaState, ...]:
    engines.wait_for_end(0)
    return replicas.observe()
