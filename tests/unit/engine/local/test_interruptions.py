"""Nothing is left running and no stage runs twice: after Ctrl-C, kill -9 and everything between."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import processes_of, wait_until
from fake_runs import Place
from tunesmith_api.finetunejob.status import Phase
from tunesmith_engine.local import processes
from tunesmith_engine.local.errors import JobBusy
from tunesmith_engine.local.home_folder import AttemptFolder
from tunesmith_engine.local.process_table import identify, is_alive
from tunesmith_engine.local.processes import ProcessRecord, write_record
from tunesmith_engine.stages import catalog

PREPARE = catalog.PREPARE.name
_RUN = "import sys, pathlib, fake_runs; fake_runs.Place(pathlib.Path(sys.argv[1])).run()"


@contextlib.contextmanager
def another_run(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A run of the same job in a process of its own, whose first stage has started a daemon."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "support")}
    with subprocess.Popen([sys.executable, "-c", _RUN, place.root], env=environment) as process:
        try:
            wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)
            yield process
        finally:
            process.kill()


def has_daemon(place: Place) -> bool:
    return any(line.startswith("daemon ") for line in place.diary())


def stop_when(place: Place) -> threading.Event:
    """An event that is set as soon as the stage has started its daemon."""
    stop = threading.Event()

    def watch() -> None:
        wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)
        stop.set()

    threading.Thread(target=watch).start()
    return stop


def test_ctrl_c_ends_the_stage_and_its_daemons_and_the_job_can_go_on(place: Place) -> None:
    place.wish(prepare=["hang", "succeed"])

    stopped = place.run(until=PREPARE, stop=stop_when(place))
    left = processes_of(place.home.root)
    resumed = place.run(until=PREPARE)

    assert stopped.phase == Phase.SUSPENDED
    assert left == []
    assert [each.reason for each in resumed.attempts] == ["Interrupted", "Succeeded"]


def test_ctrl_c_tells_the_stage_alone_which_may_need_what_it_has_started(place: Place) -> None:
    place.wish(prepare=["orderly"])

    place.run(until=PREPARE, stop=stop_when(place))

    assert "daemon is there" in place.diary()
    assert processes_of(place.home.root) == []


def test_a_stage_that_ignores_sigterm_is_killed_after_the_grace(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_GRACE_S", 0.3)
    place.wish(prepare=["stubborn"])

    stopped = place.run(until=PREPARE, stop=stop_when(place))

    assert stopped.phase == Phase.SUSPENDED
    assert processes_of(place.home.root) == []


def test_daemons_of_a_stage_that_succeeded_are_ended(place: Place) -> None:
    place.wish(prepare=["leave"])

    status = place.run(until=PREPARE)

    assert status.stages[0].state == "Succeeded"
    assert has_daemon(place)
    assert processes_of(place.home.root) == []


def test_after_kill_9_the_next_run_ends_the_orphans_before_it_goes_on(place: Place) -> None:
    place.wish(prepare=["hang", "succeed"])
    with another_run(place) as run:
        run.send_signal(signal.SIGKILL)
        run.wait()
    orphans = processes_of(place.home.root)

    status = place.run(until=PREPARE)

    assert len(orphans) == 2
    assert not set(orphans) & set(processes_of(place.home.root))
    assert [each.reason for each in status.attempts] == ["Interrupted", "Succeeded"]
    assert place.started() == ["prepare", "prepare"]


def test_a_stage_that_finished_after_its_run_was_killed_counts(place: Place) -> None:
    place.run(until=PREPARE)
    key = place.plan().stage(PREPARE).key
    folder = place.home.stage("helpdesk", stage="prepare", key=key)
    record = processes.read_record(folder.attempt(1))
    assert record is not None
    write_record(folder.attempt(1), ProcessRecord(identity=record.identity))
    folder.result.unlink()

    status = place.run(until=PREPARE)

    assert status.stages[0].state == "Succeeded"
    assert place.started() == ["prepare"]


def test_a_recycled_process_number_saves_the_stranger(place: Place) -> None:
    attempt = _an_open_attempt(place)
    with subprocess.Popen(["sleep", "30"]) as stranger:
        mine = identify(stranger.pid)
        assert mine is not None
        before = mine.model_copy(update={"start": mine.start - 1})
        write_record(attempt, ProcessRecord(identity=before))

        status = place.run(until=PREPARE)

        assert is_alive(mine)
        stranger.kill()
    assert status.stages[0].state == "Succeeded"
    assert json.loads(attempt.process.read_text())["cause"] == "Interrupted"


def test_an_orphan_that_wiped_its_environment_is_known_by_its_record(place: Place) -> None:
    attempt = _an_open_attempt(place)
    with subprocess.Popen(["sleep", "30"]) as orphan:
        write_record(attempt, ProcessRecord(identity=identify(orphan.pid)))

        place.run(until=PREPARE)

        assert orphan.wait(timeout=5) == -signal.SIGTERM


def _an_open_attempt(place: Place) -> AttemptFolder:
    """What a killed run leaves behind: an attempt that nobody saw end."""
    key = place.plan().stage(PREPARE).key
    folder = place.home.stage("helpdesk", stage="prepare", key=key).attempt(1)
    folder.path.mkdir(parents=True)
    return folder


def test_two_runs_of_a_job_at_once_are_refused_and_the_first_goes_on(place: Place) -> None:
    place.wish(prepare=["hang"])
    with another_run(place) as run:
        assert place.home.is_running("helpdesk")

        with pytest.raises(JobBusy, match=f"process {run.pid}"):
            place.run()

        run.send_signal(signal.SIGKILL)
        run.wait()
        # The stage lives on, and does not hold the lock.
        assert processes_of(place.home.root)
        assert not place.home.is_running("helpdesk")


def test_a_second_ctrl_c_leaves_nothing_behind_either(place: Place) -> None:
    place.wish(prepare=["hang"])
    with another_run(place) as run:
        run.send_signal(signal.SIGINT)
        run.wait(timeout=20)

    assert processes_of(place.home.root) == []
