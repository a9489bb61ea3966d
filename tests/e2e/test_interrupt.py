"""A run that is stopped in every way goes on, and ends as one that nobody touched."""

import json
import os
import signal
from pathlib import Path

import pytest

from command import TUNESMITH, Ran, processes_of, started, tunesmith, wait_until
from terminal import in_terminal

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]


def test_ctrl_c_a_closed_terminal_and_kill_9_during_training_change_nothing(
    first: Ran, job: Path, tmp_path: Path
) -> None:
    """The same command goes on from the last checkpoint each time, to the same held-out loss."""
    command = ["run", str(job), "--home", str(tmp_path), "--until", "evaluate", "--output", "json"]

    assert _interrupted(command, tmp_path) == (130, [])
    assert _hung_up(command, tmp_path) == (130, [])
    _killed(command, tmp_path)
    resumed = tunesmith(*command)

    assert resumed.code == 0, resumed.stderr[-4000:]
    assert resumed.cached()["prepare"]
    assert _resumed_from(tmp_path) > 0
    assert resumed.value("heldOut", "loss") == pytest.approx(
        first.value("heldOut", "loss"), abs=1e-4
    )
    assert processes_of(tmp_path) == []


def _interrupted(command: list[str], home: Path) -> tuple[int, list[int]]:
    """Ctrl-C at the next checkpoint: the exit code, and what is left running."""
    before = _newest(home)
    with started(*command) as process:
        wait_until(lambda: _newest(home) > before, what="a checkpoint")
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    return code, processes_of(home)


def _hung_up(command: list[str], home: Path) -> tuple[int, list[int]]:
    """The terminal is closed at the next checkpoint: the exit code, and what is left running."""
    before = _newest(home)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TERM": "xterm"}
    with in_terminal([str(TUNESMITH), *command], environment=environment) as terminal:
        terminal.wait_until(
            lambda: _newest(home) > before, what="another checkpoint", timeout_s=300
        )
        terminal.close()
        code = terminal.wait(timeout_s=60)
    return code, processes_of(home)


def _killed(command: list[str], home: Path) -> None:
    """Nothing of the command can tidy up: the next one does."""
    before = _newest(home)
    with started(*command) as process:
        wait_until(lambda: _newest(home) > before, what="one more checkpoint")
        process.send_signal(signal.SIGKILL)
        process.wait()


def _newest(home: Path) -> int:
    """The step of the newest checkpoint; old ones are removed meanwhile."""
    found = home.glob("jobs/helpdesk/stages/train/*/artifacts/checkpoints/step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def _resumed_from(home: Path) -> int:
    status = json.loads((home / "jobs/helpdesk/status.json").read_text())
    last = [each for each in status["attempts"] if each["stage"] == "train"][-1]
    return int(last["resumedFromStep"])
