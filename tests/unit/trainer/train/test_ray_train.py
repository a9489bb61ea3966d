"""What is asked of Ray, what its errors mean, and how often an attempt may be started again."""

import errno
import re
import traceback
from pathlib import Path

import pytest
import torch
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2._internal.execution.worker_group.poll import WorkerGroupPollStatus, WorkerStatus

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError, TransientError
from tunesmith_trainer.train.ray_train import as_transient, num_gpus, scaling_config
from tunesmith_trainer.train.starts import MAX_STARTS, count_start


class WorkersFailed(Exception):  # noqa: N818 - named like the event
    """As Ray Train reports it: which rank failed, and why."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors")
        self.worker_failures = failures


def test_cpu_workers_ask_for_no_gpu() -> None:
    scaling = scaling_config(Resources(workers=3))

    assert (scaling.num_workers, scaling.use_gpu) == (3, False)
    assert num_gpus(Resources(workers=3)) == 0


def test_an_elastic_run_asks_for_as_many_as_there_are_of_least_to_most() -> None:
    assert scaling_config(Resources(workers=3, min_workers=2)).num_workers == (2, 3)


def test_gpu_workers_ask_for_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    resources = Resources(workers=4, gpus_per_worker=1)
    scaling = scaling_config(resources)

    assert (scaling.num_workers, scaling.use_gpu) == (4, True)
    assert scaling.num_gpus_per_worker == 1
    assert num_gpus(resources) == 4


def test_gpus_that_this_machine_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)

    with pytest.raises(BadInputError, match="2 GPUs, this machine has 1") as caught:
        num_gpus(Resources(workers=2, gpus_per_worker=1))

    assert caught.value.reason is Reason.RESOURCES_UNAVAILABLE


def test_two_gpus_for_one_worker_are_refused() -> None:
    with pytest.raises(BadInputError, match="set it to 1"):
        num_gpus(Resources(gpus_per_worker=2))


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Reason.DISK_FULL),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), Reason.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("Tried to allocate 2 GiB"), Reason.DEVICE_OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), Reason.DEVICE_OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Reason.DEVICE_OUT_OF_MEMORY),
        (MemoryError("OutOfMemoryError: the node is out of memory"), Reason.OUT_OF_MEMORY),
        (RuntimeError("worker died"), Reason.STAGE_CRASHED),
        (RayActorError(), Reason.KILLED),
    ],
)
def test_a_lost_worker_is_a_fault_of_the_machine_with_its_reason(
    cause: Exception, reason: Reason
) -> None:
    error = as_transient(WorkersFailed({1: cause}))

    assert error.retryable
    assert error.reason is reason
    assert error.message.startswith(f"worker 1 failed with {type(cause).__name__}")


def test_what_a_worker_raised_is_told_by_type_and_place_and_not_by_its_words() -> None:
    try:
        int("a row")
    except ValueError as cause:
        brought = UserExceptionWithTraceback(cause, traceback_str=traceback.format_exc())

    workers = {
        rank: WorkerStatus(running=False, error=each)
        for rank, each in ((2, brought), (3, RayActorError()))
    }
    error = as_transient(WorkerGroupPollStatus(workers).get_worker_group_error())

    assert error.reason is Reason.STAGE_CRASHED
    assert re.fullmatch(r"worker 2 failed with ValueError at train/\S+:\d+", error.message)


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
