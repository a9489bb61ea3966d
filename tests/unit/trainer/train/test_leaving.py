"""A pod that is taken away: a checkpoint after the step at hand, and nobody waits for SIGKILL."""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from small_models import small_model
from small_runs import a_loop, a_train_config, losses, tell_to_leave
from tunesmith_engine.stages.contracts import LEAVING
from tunesmith_trainer.train.checkpoints import newest_step
from tunesmith_trainer.train.fencing import FencedError, fence_of
from tunesmith_trainer.train.leaving import Left, is_told_to_leave, leave, waited_for

TRAINING: dict[str, Any] = {"method": "full", "maxSteps": 6, "evaluateEverySteps": 3}


def test_training_that_is_told_to_leave_keeps_its_step_and_goes_on_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_train_config(training=TRAINING, checkpoint={"everySteps": 100})
    undisturbed = a_loop(small_model(), config=config, folder=tmp_path / "a" / "checkpoints").run()
    folder, pod = tmp_path / "b" / "checkpoints", tmp_path / "pod"
    monkeypatch.setenv(LEAVING, str(pod))

    def tell(history: Any, **_: Any) -> None:
        if history.step == 1:
            tell_to_leave(pod)

    with pytest.raises(Left, match="left after step 2"):
        a_loop(small_model(), config=config, folder=folder, on_step=tell).run()
    assert newest_step(tmp_path / "b") == 2
    monkeypatch.delenv(LEAVING)
    resumed = a_loop(small_model(), config=config, folder=folder)

    assert losses(resumed.run()) == losses(undisturbed)
    assert resumed.resumed_from == 2


def test_who_has_not_begun_to_train_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_train_config(training=TRAINING)
    monkeypatch.setenv(LEAVING, str(tmp_path / "pod"))
    waited: list[bool] = []

    def measuring(_history: Any, _part: float) -> None:
        if not waited:
            waited.append(leave(tmp_path / "pod"))

    with pytest.raises(Left, match="left after step 1"):
        a_loop(
            small_model(), config=config, folder=tmp_path / "checkpoints", on_measuring=measuring
        ).run()

    assert waited == [False]


def test_the_hook_waits_for_who_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEAVING, str(tmp_path))
    assert not is_told_to_leave()

    with waited_for():
        hook = threading.Thread(target=leave, args=(tmp_path,))
        hook.start()
        hook.join(timeout=0.5)
        assert hook.is_alive()
        assert is_told_to_leave()
    hook.join(timeout=10)

    assert not hook.is_alive()


def test_the_hook_does_not_wait_for_who_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f"busy-{gone.pid}").touch()
    began = time.monotonic()

    leave(tmp_path)

    assert time.monotonic() - began < 5


def test_a_container_that_was_started_again_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEAVING, str(tmp_path))
    (tmp_path / "notice").write_text("1234")

    assert not is_told_to_leave()


def test_outside_of_a_pod_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEAVING, raising=False)

    with waited_for():
        assert not is_told_to_leave()
    assert LEAVING not in os.environ


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nothing_counts_that_a_run_writes_after_a_newer_one_has_begun(
    tmp_path: Path, *, asynchronous: bool
) -> None:
    config = a_train_config(
        training=TRAINING, checkpoint={"everySteps": 2, "asynchronous": asynchronous}
    )
    undisturbed = a_loop(small_model(), config=config, folder=tmp_path / "a").run()
    stale, newer = (fence_of(None, output=tmp_path) for _ in range(2))
    stale.take()

    def overtake(history: Any, **_: Any) -> None:
        if history.step == 3:
            newer.take()

    with pytest.raises(FencedError):
        a_loop(
            small_model(), config=config, folder=tmp_path / "b", on_step=overtake, fence=stale
        ).run()
    kept = max(int(path.name.removeprefix("step-")) for path in (tmp_path / "b").glob("step-*"))
    resumed = a_loop(small_model(), config=config, folder=tmp_path / "b", fence=newer)

    assert losses(resumed.run()) == losses(undisturbed)
    assert resumed.resumed_from == kept < 4
