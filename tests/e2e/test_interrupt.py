"""A run that is stopped in every way goes on, and ends as one that nobody touched.

So does one that is stopped while vLLM runs. What vLLM starts is known by its session: it writes
over the arguments and variables that it was started with.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from command import TUNESMITH, Ran, processes_of, started, tunesmith, wait_until
from terminal import in_session, in_terminal

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]

# Where `tunesmith run --serve` listens.
HEALTH = "http://127.0.0.1:8000/health"


@pytest.mark.long
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


def test_a_closed_terminal_ends_the_server_with_its_engine(
    first: Ran, job: Path, home: Path
) -> None:
    """The run has become vLLM's server, whose engine is a process of its own."""
    command = [str(TUNESMITH), "run", str(job), "--home", str(home), "--serve"]
    with in_terminal(command, environment=_environment()) as terminal:
        session = terminal.pid
        terminal.wait_until(_is_served, what="vLLM", timeout_s=600)
        names = in_session(session).values()
        terminal.close()
        code = terminal.wait(timeout_s=60)
        wait_until(lambda: not in_session(session), what="the engine's end", timeout_s=30)

    assert first.code == 0, first.stderr[-4000:]
    assert any("EngineCor" in name for name in names)
    assert code == -signal.SIGHUP
    assert not _is_served()
    assert processes_of(home) == []


def test_a_closed_terminal_ends_vllm_in_the_middle_of_verify(
    first: Ran, job: Path, home: Path, tmp_path: Path
) -> None:
    changed = yaml.safe_load(job.read_text())
    changed["spec"]["verification"] = {"minAgreement": 0.89, "measureSpeed": False}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(changed))
    before = _logs_of_verify(home)

    def has_vllm() -> bool:
        new = _logs_of_verify(home) - before
        return any("vllm" in log.read_text(errors="replace") for log in new)

    command = [str(TUNESMITH), "run", str(path), "--home", str(home)]
    with in_terminal(command, environment=_environment()) as terminal:
        terminal.wait_until(has_vllm, what="vLLM", timeout_s=600)
        terminal.close()
        code = terminal.wait(timeout_s=60)

    assert first.code == 0, first.stderr[-4000:]
    assert code == 130
    assert processes_of(home) == []


def _environment() -> Mapping[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TERM": "xterm"}


def _is_served() -> bool:
    try:
        with urllib.request.urlopen(HEALTH, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _logs_of_verify(home: Path) -> set[Path]:
    return set(home.glob("jobs/helpdesk/stages/verify/**/log.txt"))


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
    with in_terminal([str(TUNESMITH), *command], environment=_environment()) as terminal:
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
        wait_until(
            lambda: _newest(home) > before or process.poll() is not None,
            what="one more checkpoint",
        )
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def _newest(home: Path) -> int:
    """The step of the newest checkpoint; old ones are removed meanwhile."""
    found = home.glob("jobs/helpdesk/stages/train/*/artifacts/checkpoints/step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def _resumed_from(home: Path) -> int:
    status = json.loads((home / "jobs/helpdesk/status.json").read_text())
    last = [each for each in status["attempts"] if each["stage"] == "train"][-1]
    return int(last["resumedFromStep"])
