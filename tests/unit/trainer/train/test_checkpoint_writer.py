"""Checkpoints written beside training: of the step they were taken at, or an error."""

import errno
import os
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config
from tunesmith_trainer.train.checkpoint_writer import CheckpointWriter, host_copy
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.history import History

TRAINING = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 8},
    "maxSteps": 6,
    "evaluateEverySteps": 6,
}


class _SlowDisk:
    """`Checkpoints.write` that begins, and goes on when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, error: OSError | None = None) -> None:
        self.may_write, self._error = Event(), error
        monkeypatch.setattr(Checkpoints, "write", self._slowly(Checkpoints.write))

    def _slowly(self, write: Any) -> Any:
        def slow(checkpoints: Checkpoints, *args: Any, **kwargs: Any) -> None:
            assert self.may_write.wait(20.0)
            if self._error is not None:
                raise self._error
            write(checkpoints, *args, **kwargs)

        return slow


def _loop(folder: Path, *, on_step: Any = None) -> Any:
    config = a_train_config(
        training=TRAINING, checkpoint={"everySteps": 2, "keep": 9, "asynchronous": True}
    )
    return a_loop(small_model(), config=config, folder=folder, on_step=on_step)


def test_training_goes_on_while_a_checkpoint_of_its_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _SlowDisk(monkeypatch)
    at_two: dict[str, torch.Tensor] = {}

    def on_step(history: History, *, epoch: float) -> None:
        if history.step == 2:
            at_two.update(host_copy(dict(loop._model.named_parameters())))
        if history.step == 3:
            assert not list(tmp_path.glob("step-*"))
            # Step 4 has to wait for it.
            disk.may_write.set()

    loop = _loop(tmp_path, on_step=on_step)
    loop.run()

    written = Checkpoints(tmp_path, config_digest=loop._config.digest(), keep=9)
    kept = written.read(2)
    assert kept is not None
    assert all(torch.equal(value, at_two[name]) for name, value in kept.tensors("weights").items())
    assert kept.state["step"] == 2
    assert [step for step in range(7) if written.read(step)] == [2, 4, 6]


def test_a_full_disk_is_told_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    disk = _SlowDisk(monkeypatch, error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def on_step(history: History, *, epoch: float) -> None:
        steps.append(history.step)
        if history.step == 3:
            disk.may_write.set()

    with pytest.raises(OSError, match="No space left") as caught:
        _loop(tmp_path, on_step=on_step).run()

    assert caught.value.errno == errno.ENOSPC
    assert steps[-1] in {3, 4}


def test_the_last_one_is_waited_for_also_by_a_run_that_fails(tmp_path: Path) -> None:
    def on_step(history: History, *, epoch: float) -> None:
        if history.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _loop(tmp_path, on_step=on_step).run()

    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]


def test_without_a_thread_it_is_written_at_once() -> None:
    written: list[int] = []

    CheckpointWriter(asynchronous=False).start(lambda: written.append(1))

    assert written == [1]


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A process of its own, which is gone in the middle of the second write."""
    child = os.fork()
    if child == 0:
        kept = Checkpoints(tmp_path, config_digest="sha256:1", keep=2)
        kept.write(1, best_step=1, files={"weights": {"a": torch.ones(2)}}, state={})
        writer = CheckpointWriter(asynchronous=True)
        is_begun = Event()

        def write() -> None:
            (kept.begin(2) / "weights.safetensors").write_bytes(b"half")
            is_begun.set()
            Event().wait()

        writer.start(write)
        is_begun.wait(20.0)
        os._exit(9)
    os.waitpid(child, 0)

    newest = Checkpoints(tmp_path, config_digest="sha256:1", keep=2).newest()

    assert newest is not None
    assert newest.step == 1
