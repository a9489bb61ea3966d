"""Where the workers run and what happens when one is lost: the settings given to Ray Train.

`stage` calls `fit` inside `cluster.local_ray` or `joined_ray`. The GPU settings are generated and
tested as settings; no run on a GPU stands behind them yet.
"""

from pathlib import Path
from typing import Any

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
from tunesmith_trainer.train.ray_cluster import is_in_cluster
from tunesmith_trainer.train.starts import newest_step
from tunesmith_trainer.train.worker import Refusal, Trained, train_on_worker

MAX_LOST_WORKERS = 2


class _PrivateTrainer(TorchTrainer):
    """A trainer for a Ray that no other run uses, which reads its data itself.

    Ray's cleaner of placement groups serves clusters that outlive the run; without a dashboard it
    would complain every second. Its manager of Ray data sets would have nothing to manage. Each is
    a process that takes seconds to start.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [
            each
            for each in super()._create_default_callbacks()
            if not isinstance(each, PlacementGroupCleanerCallback | DatasetsCallback)
        ]


def fit(request: StageRequest, *, folder: Path) -> Trained | Refusal:
    """Run `train_on_worker` on every worker; what the first one returned.

    `folder` takes Ray Train's own records. In a cluster, where nodes come and go, losses count from
    the newest checkpoint on.

    Raises:
        TransientError: a worker failed, and so did those that replaced it.
    """
    rounds = 0
    while True:
        before = newest_step(Path(request.output))
        try:
            return _fit_once(request, folder=folder / str(rounds))
        except TrainingFailedError as error:
            if not is_in_cluster() or newest_step(Path(request.output)) <= before:
                raise as_transient(error) from error
        rounds += 1


def _fit_once(request: StageRequest, *, folder: Path) -> Trained | Refusal:
    trainer = _PrivateTrainer(
        train_on_worker,
        train_loop_config={"request": request.model_dump_json(by_alias=True)},
        scaling_config=scaling_config(request.spec.resources),
        run_config=_run_config(folder),
    )
    outcome: Trained | Refusal = trainer.fit().return_value
    return outcome


def scaling_config(resources: Resources) -> ScalingConfig:
    """One Ray worker for each of the spec's workers, with one GPU each if it asks for GPUs."""
    return ScalingConfig(num_workers=resources.workers, use_gpu=resources.gpus_per_worker > 0)


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
    found = torch.cuda.device_count()
    if on_this_machine and found < resources.workers:
        raise BadInputError(
            Reason.RESOURCES_UNAVAILABLE,
            f"resources ask for {resources.workers} GPUs, this machine has {found}; lower "
            "resources.workers, or set gpusPerWorker: 0 to train on the CPU",
        )
    return resources.workers


def as_transient(error: Exception) -> TransientError:
    """Ray's error as a stage error, with the reason of the worker's failure where it shows."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank = min(failures)
    cause = getattr(failures[rank], "_base_exc", failures[rank])
    first = (str(cause).strip().splitlines() or [""])[0]
    return TransientError(
        _reason_of(cause), f"worker {rank} failed with {type(cause).__name__}: {first}"
    )


def _reason_of(cause: BaseException) -> Reason:
    if is_disk_full(cause):
        return Reason.DISK_FULL
    text = f"{type(cause).__name__}: {cause}".lower()
    if any(sign in text for sign in ("outofmemory", "out of memory", "can't allocate memory")):
        return Reason.OUT_OF_MEMORY
    # A worker that is gone has told no error of its own.
    return Reason.KILLED if isinstance(cause, RayActorError) else Reason.STAGE_CRASHED


def _run_config(folder: Path) -> RunConfig:
    return RunConfig(
        name="train",
        storage_path=str(folder / "storage"),
        failure_config=FailureConfig(max_failures=MAX_LOST_WORKERS),
    )
