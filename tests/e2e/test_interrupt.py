"""Ctrl-C during a run: everything stops, and the same command goes on."""

import signal
from pathlib import Path

import pytest

from command import processes_of, started, tunesmith, wait_until

JOB = Path(__file__).parents[2] / "examples/helpdesk/job.yaml"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = ("run", JOB, "--home", tmp_path, "--until", "train", "--output", "json")
    with started(*command) as process:
        wait_until(
            lambda: any(tmp_path.glob("jobs/helpdesk/stages/train/*/artifacts/checkpoints/step-*")),
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
