"""What Ray Train is told: where the workers run, and what happens when one is lost.

`stage` calls `fit` inside `ray_cluster.local_ray` or `joined_ray`; Ray Train calls
`train_on_worker` on every worker. The GPU settings are generated and tested as settings; no run on
a GPU stands behind them yet.

A worker that is lost is replaced in three ways, one around the other: by Ray Train, on fresh
workers; in a cluster by `fit`, as long as there is a checkpoint more each time; and by KubeRay,
which puts a new head in the place of a lost one and runs the stage there from its beginning, within
the same RayJob, so that nobody else counts it (so it does after Kueue has taken the quota back).
`starts` counts that. Each time the run goes on from its newest checkpoint.
"""

import logging
import re
from pathlib import Path
from typing import Any, Final, cast

import torch
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError, TransientError, is_disk_full
from tunesmith_engine.stages.termination_message import crash_message, termination_message
from tunesmith_trainer.devices import num_accelerators
from tunesmith_trainer.train.leaving import is_told_to_leave
from tunesmith_trainer.train.precision_probe import Precision
from tunesmith_trainer.train.ray_cluster import STOPPED, is_in_cluster
from tunesmith_trainer.train.worker import Departure, Refusal, Trained, train_on_worker
from tunesmith_trainer.train.worker_workspace import newest_kept_step

_log = logging.getLogger(__name__)

MAX_LOST_WORKERS: Final = 2

# What Ray writes before the tracebacks of some workers.
_SNIPPET: Final = re.compile(r"^\[Rank ([\d,]+) Error Snippet\]:$", re.MULTILINE)
# Errors of CUDA, ROCm and XPU, should Ray hand them on as another type.
_OF_DEVICE: Final = re.compile(r"\b(cuda|hip|xpu)( error:)? out of memory")


class _PrivateTrainer(TorchTrainer):
    """A trainer for a Ray that no other run uses, which reads its data itself.

    Ray's cleaner of placement groups serves clusters that outlive the run; without a dashboard it
    would complain every second. Its manager of Ray data sets would have nothing to manage. Each is
    a process that takes seconds to start.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [
            callback
            for callback in super()._create_default_callbacks()
            if not isinstance(callback, PlacementGroupCleanerCallback | DatasetsCallback)
        ]


def fit(request: StageRequest, *, folder: Path, precision: Precision | None) -> Trained | Refusal:
    """Run `train_on_worker` on every worker; what the first one returned.

    `precision` is the processor's faster type, None with accelerators. `folder` takes Ray Train's
    own records. In a cluster, where nodes come and go, losses count from the newest checkpoint on.

    Raises:
        SystemExit: the pod of this process is about to be taken away.
        TransientError: a worker failed, and so did those that replaced it.
    """
    rounds = 0
    while True:
        before = newest_kept_step(request)
        trainer = _PrivateTrainer(
            train_on_worker,
            train_loop_config={
                "request": request.model_dump_json(by_alias=True),
                "precision": precision,
            },
            scaling_config=scaling_config(request.spec.resources),
            run_config=RunConfig(
                name="train",
                # NB: a folder for each round: Ray Train takes up the run whose records it finds.
                storage_path=str(folder / str(rounds) / "storage"),
                failure_config=FailureConfig(max_failures=MAX_LOST_WORKERS),
            ),
        )
        try:
            trained: Trained | Refusal | Departure = trainer.fit().return_value
        except TrainingFailedError as error:
            if not is_in_cluster() or newest_kept_step(request) <= before:
                # What the workers said, which the stage's own error leaves out.
                _log.error("training failed:\n%s", error)
                raise as_transient(error) from error
        else:
            if trained.get("kind") != "left":
                return cast("Trained | Refusal", trained)
            step = cast("Departure", trained)["step"]
            _log.warning("a pod is taken away; training goes on from step %d", step)
            if is_told_to_leave():
                # This very pod, and nobody would be here to go on.
                raise SystemExit(STOPPED)
        rounds += 1


def scaling_config(resources: Resources) -> ScalingConfig:
    """One Ray worker for each of the spec's workers, with one GPU each if it asks for GPUs.

    With `minWorkers` Ray Train starts as many as there is room for, and when one is lost goes on
    with those that are left. When there is room for more it starts all of them again.
    """
    most, least = resources.workers, resources.min_workers
    return ScalingConfig(
        num_workers=most if least is None else (least, most),
        use_gpu=resources.gpus_per_worker > 0,
    )


def num_gpus(resources: Resources, *, on_this_machine: bool = True) -> int:
    """How many GPUs the run needs.

    Raises:
        BadInputError: more than one GPU per worker, or more than there are, if on this machine.
    """
    if resources.gpus_per_worker == 0:
        return 0
    if resources.gpus_per_worker > 1:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"resources.gpusPerWorker is {resources.gpus_per_worker}, but a worker computes on one "
            "GPU; set it to 1 and raise resources.workers",
        )
    # Ray would wait for ever for GPUs that no node of its has.
    available = num_accelerators()
    if on_this_machine and available < resources.workers:
        raise BadInputError(
            Reason.RESOURCES_UNAVAILABLE,
            f"resources ask for {resources.workers} GPUs, this machine has {available}; lower "
            "resources.workers, or set gpusPerWorker: 0 to train on the CPU",
        )
    return resources.workers


def as_transient(error: Exception) -> TransientError:
    """Ray's error as a stage error, with the reason of the worker's failure where it shows."""
    # The lowest rank that failed, so that the same failure reads the same in every attempt: two in
    # a row that are alike end the job.
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank = min(failures)
    # Ray wraps what a worker raised, to add its traceback; the type that counts is within.
    cause = getattr(failures[rank], "_base_exc", failures[rank])
    told = _told(cause, snippets=str(error), rank=rank)
    return TransientError(_reason_of(cause), f"worker {rank} failed with {told}")


def _told(cause: BaseException, *, snippets: str, rank: int) -> str:
    """Type and place of what a worker raised; of a worker that is gone, what Ray says of it."""
    if isinstance(cause, RayActorError):
        return f"{type(cause).__name__}: {(str(cause).strip().splitlines() or [''])[0]}"
    # The traceback did not come with it from the other process, but as text for all workers.
    _, *of_ranks = _SNIPPET.split(snippets)
    for ranks, snippet in zip(of_ranks[::2], of_ranks[1::2], strict=True):
        told = termination_message(snippet)
        if str(rank) in ranks.split(",") and told.startswith(type(cause).__name__):
            return told
    return crash_message(cause)


def _reason_of(cause: BaseException) -> Reason:
    if is_disk_full(cause):
        return Reason.DISK_FULL
    # By its words: Ray, torch on a GPU and torch on a CPU each have an error of their own.
    text = f"{type(cause).__name__}: {cause}".lower()
    if isinstance(cause, torch.OutOfMemoryError) or _OF_DEVICE.search(text):
        return Reason.DEVICE_OUT_OF_MEMORY
    if any(sign in text for sign in ("outofmemory", "out of memory", "can't allocate memory")):
        return Reason.OUT_OF_MEMORY
    # A worker that is gone has told no error of its own.
    return Reason.KILLED if isinstance(cause, RayActorError) else Reason.STAGE_CRASHED
