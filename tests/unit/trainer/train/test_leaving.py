"""A pod that is taken away: a checkpoint after the step at hand, and nobody waits for SIGKILL."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_engine.stages.contracts import LEAVING
from tunesmith_trainer.train import leaving
from tunesmith_trainer.train.checkpoints import newest_step
from tunesmith_trainer.train.leaving import Left, is_told_to_leave, leave, waited_for

TRAINING: dict[str, Any] = {"method": "full", "maxSteps": 6, "evaluateEverySteps": 3}


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have ended the Ray of this machine."""
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(leaving, "_TOLD_S", 0.0)
    return commands


def test_training_that_is_told_to_leave_keeps_its_step_and_goes_on_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_train_config(training=TRAINING, checkpoint={"everySteps": 100})
    undisturbed = a_loop(small_model(), config=config, folder=tmp_path / "a" / "checkpoints").run()
    folder = tmp_path / "b" / "checkpoints"
    monkeypatch.setenv(LEAVING, str(tmp_path))

    def tell(history: Any, **_: Any) -> None:
        if history.step == 1:
            (tmp_path / "notice").touch()

    with pytest.raises(Left, match="left after step 2"):
        a_loop(small_model(), config=config, folder=folder, on_step=tell).run()
    assert newest_step(tmp_path / "b") == 2
    (tmp_path / "notice").unlink()
    resumed = a_loop(small_model(), config=config, folder=folder)

    assert losses(resumed.run()) == losses(undisturbed)
    assert resumed.resumed_from == 2


def test_the_hook_waits_for_who_works_and_then_ends_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: list[list[str]]
) -> None:
    monkeypatch.setenv(LEAVING, str(tmp_path))
    assert not is_told_to_leave()

    with waited_for():
        hook = threading.Thread(target=leave, args=(tmp_path,))
        hook.start()
        hook.join(timeout=0.5)
        assert hook.is_alive()
        assert not stopped
        assert is_told_to_leave()
    hook.join(timeout=10)

    assert stopped == [["ray", "stop", "--force"]]


def test_the_hook_does_not_wait_for_who_was_killed(
    tmp_path: Path, stopped: list[list[str]]
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f"busy-{gone.pid}").touch()

    leave(tmp_path)

    assert len(stopped) == 1


def test_outside_of_a_pod_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEAVING, raising=False)

    with waited_for():
        assert not is_told_to_leave()
    assert LEAVING not in os.environ
