"""A control run that is cut off: the job goes on from its own last step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from small_models import make_tiny_model
from small_runs import ALONE, losses, random_rows, tell_to_leave
from train_stage import TrainStage, a_train_stage
from tunesmith_engine.stages.contracts import LEAVING, StageRequest
from tunesmith_trainer.train import control_run
from tunesmith_trainer.train.fencing import FencedError, fence_of
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.worker import train_share

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

TRAINING: dict[str, Any] = {
    "precision": "fp32",
    "maxSteps": 6,
    "evaluateEverySteps": 3,
    "batch": {"size": 8, "microBatchSize": 4},
    "regularization": {"labelSmoothing": 0.1},
    "control": {"steps": 4},
}


def test_told_to_leave_it_says_the_step_of_the_job_and_the_next_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, stage = _stage(tmp_path / "a"), _stage(tmp_path / "b")
    whole = _share_of(undisturbed)
    monkeypatch.setenv(LEAVING, str(tmp_path / "pod"))
    with monkeypatch.context() as patch:
        _after_second_step(patch, lambda: tell_to_leave(tmp_path / "pod"))
        left = _share_of(stage)
    assert left == {"kind": "left", "step": 6}
    assert (stage.output / "control" / "step-3").is_dir()
    monkeypatch.delenv(LEAVING)

    again = _share_of(stage)

    assert again["resumed_from"] == 6
    ended, expected = (losses(History(**each["control"])) for each in (again, whole))
    assert ended == expected


def test_nothing_of_it_counts_once_a_newer_start_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = _stage(tmp_path)
    _after_second_step(monkeypatch, fence_of(None, output=stage.output).take)

    with pytest.raises(FencedError):
        _share_of(stage)

    assert not list((stage.output / "control").glob("step-4"))


def _after_second_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Of the control."""

    class Watched(ProgressReporter):
        def __call__(self, history: History, *, epoch: float) -> None:
            super().__call__(history, epoch=epoch)
            if history.step == 2:
                act()

    monkeypatch.setattr(control_run, "ProgressReporter", Watched)


def _share_of(stage: TrainStage) -> Any:
    request = StageRequest.model_validate_json((stage.folder / "request.json").read_text())
    return train_share(request, group=ALONE, probed="fp32", is_first_here=False)


def _stage(folder: Path) -> TrainStage:
    return a_train_stage(
        folder,
        model=make_tiny_model(folder / "model"),
        train=random_rows(24),
        validation=random_rows(6, seed=1),
        training=TRAINING,
        checkpoint={"everySteps": 100},
    )
