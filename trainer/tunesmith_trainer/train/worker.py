"""What every Ray worker runs: load what `prepare` left, train, and on the first worker write.

`ray_train` names `train_on_worker` to Ray Train, which calls it once per worker, and again on fresh
workers after one was lost; it then goes on from the newest checkpoint.
"""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, final

import torch

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.configmap_reporter import reporter_of
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageRequest
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.devices import (
    CPU,
    has_bf16,
    name_of,
    prefer_deterministic_kernels,
    use_tensor_cores,
)
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig, resolve_config
from tunesmith_trainer.train.control_run import train_control
from tunesmith_trainer.train.early_stopping import refuse_idle_early_stopping
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.leaving import Left, waited_for
from tunesmith_trainer.train.loop import autocast
from tunesmith_trainer.train.observers import observers
from tunesmith_trainer.train.packing_choice import decide_packing
from tunesmith_trainer.train.precision_probe import Precision
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.ray_cluster import threads_per_worker
from tunesmith_trainer.train.remedies import without_remedies
from tunesmith_trainer.train.run_parts import build_loop, evaluation_cost, run_parts

CURVE = "curve.jsonl"

# A worker of a killed attempt leaves within seconds of its Ray; it may be at a checkpoint still.
_LOCK_WAIT_S = 60.0


@final
class Trained(TypedDict):
    """What the first worker hands back of a run that reached its last step, planned or early."""

    history: dict[str, Any]
    control: dict[str, Any] | None
    planned_steps: int
    resolved: dict[str, str]
    warmup_steps: int
    num_trainable: int
    reference_seconds: float | None
    packing: dict[str, Any]
    resumed_from: int | None
    warnings: list[str]


@final
class Refusal(TypedDict):
    """A verdict on the model or its input: handed back, since Ray would retry an exception."""

    kind: Literal["bad input", "verdict"]
    reason: str
    message: str


@final
class Departure(TypedDict):
    """Training was left, since a worker's pod is taken away; it goes on from `step`."""

    kind: Literal["left"]
    step: int


class LoopConfig(TypedDict):
    """What Ray Train hands to every worker.

    `request` is the stage's request as JSON; `precision` the faster type of the processor, None
    where accelerators train.
    """

    request: str
    precision: Precision | None


def train_on_worker(loop_config: LoopConfig) -> Trained | Refusal | Departure:
    """Train this worker's share.

    Every worker returns; Ray hands on what the first one returned.
    """
    # Each worker is a process of its own, started by Ray: nothing that the stage set up is here.
    from ray import train
    from ray.train.torch import get_device

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    request = StageRequest.model_validate_json(loop_config["request"])
    context = train.get_context()
    group = WorkerGroup(
        rank=context.get_world_rank(), size=context.get_world_size(), device=get_device()
    )
    torch.set_num_threads(threads_per_worker(context.get_local_world_size()))
    is_first_here = context.get_local_rank() == 0
    try:
        with waited_for():
            return _train(
                request, group=group, probed=loop_config["precision"], is_first_here=is_first_here
            )
    except Left as left:
        # Returned, not raised: Ray Train would start others beside those that leave.
        return Departure(kind="left", step=left.step)
    except (BadInputError, VerdictError) as error:
        return Refusal(
            kind="bad input" if error.bad_input else "verdict",
            reason=error.reason,
            message=error.message,
        )


def config_of(
    request: StageRequest,
    *,
    prepared: Prepared,
    probed: Precision | None,
    device: torch.device = CPU,
) -> TrainConfig:
    """The configuration of this request; the same on every worker.

    `probed` is the faster type of the processor, None where accelerators train.

    Raises:
        BadInputError: the job asks for bf16, and `device` has none.
    """
    has_half = has_bf16(device)
    if probed is None:
        # NB: by the device it runs on. On cards of different kinds workers would disagree, and so
        # would the digests of their checkpoints; `precision: bf16` or `fp32` settles it.
        probed = "bf16" if has_half else "fp32"
    if request.spec.training.precision == "bf16" and not has_half:
        raise BadInputError(
            Reason.RESOURCES_UNAVAILABLE,
            f"training.precision: bf16 is nothing that {name_of(device)} computes in; leave it at "
            "auto, or choose fp32",
        )
    return resolve_config(
        request.spec,
        num_rows=len(prepared.train),
        precision=probed,
        evaluation_cost=evaluation_cost(prepared, batch_size=request.spec.training.batch.size),
    )


def _train(
    request: StageRequest, *, group: WorkerGroup, probed: Precision | None, is_first_here: bool
) -> Trained:
    prepared = load_prepared(request)
    config = config_of(request, prepared=prepared, probed=probed, device=group.device)
    use_tensor_cores(config.precision)
    refuse_idle_early_stopping(config)
    prefer_deterministic_kernels()
    group = replace(group, is_sharded=config.is_sharded)
    output, control = Path(request.output), config.training.control
    if control:
        without_remedies(request.spec)  # which refuses a job that has none, before it is trained
    progress = ProgressReporter(
        reporter_of(request),
        total_steps=config.num_steps + (control.steps if control else 0),
        curve=output / CURVE,
    )
    with _sole_writer(output, group=group):
        model = build_trainable(prepared.model, config=config, device=group.device)
        packing = decide_packing(
            model,
            config=config,
            tokens=prepared.train,
            group=group,
            autocast=partial(autocast, group.device, precision=config.precision),
            folder=output,
        )
        config = replace(config, packing=packing.packing)
        parts = run_parts(model, request=request, prepared=prepared, config=config, group=group)
        with observers(
            request,
            config=config,
            progress=progress if group.is_first else None,
            is_first_here=is_first_here,
        ) as told:
            loop = build_loop(
                model,
                parts,
                prepared=prepared,
                config=config,
                group=group,
                checkpoints=output / CHECKPOINTS,
                on_step=told,
                on_measuring=progress.measuring if group.is_first else None,
            )
            history = loop.run()
        if group.is_first:
            history.write_curve(output / CURVE)
        if group.is_first or group.is_sharded:
            # After the last step. Of a whole model not by the other workers: nothing in this block
            # is a collective then, so they may go on while this one writes.
            loop.load_best()
            export_tuned(
                model,
                base=prepared.model,
                base_uri=request.spec.model.uri,
                output=output,
                group=group,
            )
        num_trainable, resumed_from = loop.num_trainable, loop.resumed_from
        # NB: the model and its optimizer are let go of before the control has its own.
        del loop, model
        beside = (
            train_control(request, prepared, config=config, last_step=history.step, group=group)
            if control
            else None
        )
    return Trained(
        history=history.as_state(),
        control=beside.as_state() if beside else None,
        planned_steps=config.num_steps,
        resolved=config.resolved(),
        warmup_steps=config.warmup_steps,
        num_trainable=num_trainable,
        reference_seconds=parts.reference_seconds,
        packing=packing.model_dump(by_alias=True, exclude_none=True),
        resumed_from=resumed_from,
        warnings=told.warnings,
    )


@contextmanager
def _sole_writer(output: Path, *, group: WorkerGroup) -> Iterator[None]:
    """Hold the output folder: a worker of a killed attempt may live for a moment longer.

    Raises:
        TimeoutError: another process still writes there.
    """
    if not group.is_first:
        yield
        return
    # NB: flock, which the kernel drops with the process, however it ends; a lock file would stay.
    with (output / ".writer").open("w", encoding="utf-8") as lock:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        "another process still trains into the same folder"
                    ) from None
                time.sleep(0.2)
        yield
