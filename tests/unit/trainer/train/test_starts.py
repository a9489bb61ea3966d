"""An attempt that is started again and again without a checkpoint in between comes to an end."""

from pathlib import Path

import pytest

from tunesmith_engine.stages.errors import TransientError
from tunesmith_trainer.train.starts import MAX_STARTS, count_start, newest_step


def start(folder: Path, *steps: int, attempt: int = 1) -> None:
    """Starts of an attempt, each with the step of the newest checkpoint then."""
    for step in steps:
        count_start(folder / "starts.json", attempt=attempt, newest=step)


def test_a_loop_without_a_checkpoint_is_a_failure_that_is_tried_again(tmp_path: Path) -> None:
    start(tmp_path, *[40] * MAX_STARTS)

    with pytest.raises(TransientError, match="cut off before the next checkpoint"):
        start(tmp_path, 40)


def test_a_checkpoint_in_between_begins_the_count_anew(tmp_path: Path) -> None:
    start(tmp_path, *[0] * MAX_STARTS, *[10] * MAX_STARTS, *[20] * MAX_STARTS)


def test_so_does_the_next_attempt(tmp_path: Path) -> None:
    start(tmp_path, *[40] * MAX_STARTS)
    start(tmp_path, *[40] * MAX_STARTS, attempt=2)


def test_a_spoilt_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "starts.json").write_text("{")

    start(tmp_path, 0)


def test_the_newest_step_is_that_of_a_folder_of_a_checkpoint(tmp_path: Path) -> None:
    for name in ("step-9", "step-10", ".step-30.7"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)

    assert newest_step(tmp_path) == 10
    assert newest_step(tmp_path / "nothing") == 0
