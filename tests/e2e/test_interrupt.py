"""Ctrl-C during a run, or a closed terminal: everything stops, and the same command goes on."""

import os
import signal
from pathlib import Path

import pytest

from command import TUNESMITH, processes_of, started, tunesmith, wait_until
from terminal import in_terminal

JOB = Path(__file__).parents[2] / "examples/helpdesk/job.yaml"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def has_checkpoint(home: Path) -> bool:
    return any(home.glob("jobs/helpdesk/stages/train/*/artifacts/checkpoints/step-*"))


def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = ("run", JOB, "--home", tmp_path, "--until", "train", "--output", "json")
    with started(*command) as process:
        wait_until(
            lambda: has_checkpoint(tmp_path),
            what="the first checkpoint",
        )
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    left = processes_of(tmp_path)

    resumed = tunesmith(*command)

    assert code == 130
    assert left == []
    assert resumed.code == 0, resumed.stderr[-4000:]
    assert resumed.cached()["prepare"]


def test_a_closed_terminal_leaves_no_process_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = ["run", str(JOB), "--home", str(tmp_path), "--until", "train"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TERM": "xterm"}
    with in_terminal([str(TUNESMITH), *command], environment=environment) as terminal:
        terminal.wait_until(
            lambda: has_checkpoint(tmp_path), what="the first checkpoint", timeout_s=600
        )
        terminal.close()
        code = terminal.wait(timeout_s=60)
    left = processes_of(tmp_path)

    resumed = tunesmith(*command, "--output", "json")

    assert code == 130
    assert left == []
    assert resumed.code == 0, resumed.stderr[-4000:]
    assert resumed.cached()["prepare"]
