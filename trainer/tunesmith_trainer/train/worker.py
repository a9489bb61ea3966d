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
from tunesmith_api.results import Artifact
from tunesmith_engine.stages.configmap_reporter import reporter_of
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_engine.stages.remote_workspace import StageWorkspace, as_stage_errors
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.devices import (
    CPU,
    has_bf16,
    name_of,
    prefer_deterministic_kernels,
    use_tensor_cores,
)
from tunesmith_trainer.models import TUNED
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig, resolve_config
from tunesmith_trainer.train.control_run import train_control
from tunesmith_trainer.train.early_stopping import refuse_idle_early_stopping
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.fencing import Fence, fence_of
from tunesmith_trainer.train.leaving import Left
from tunesmith_trainer.train.loop import Loop, autocast
from tunesmith_trainer.train.measures import evaluation_cost
from tunesmith_trainer.train.observers import observers
from tunesmith_trainer.train.packing_choice import decide_packing
from tunesmith_trainer.train.precision_probe import Precision
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.ray_cluster import threads_per_worker
from tunesmith_trainer.train.remedies import without_remedies
from tunesmith_trainer.train.remote_checkpoints import RemoteCheckpoints
from tunesmith_trainer.train.run_parts import build_loop, run_parts
from tunesmith_trainer.train.taken_weights import is_taken, refuse_other_run, take_weights
from tunesmith_trainer.train.trackers.curve_tracking import tracker_folders
from tunesmith_trainer.train.worker_workspace import (
    fetched,
    open_workspace,
    remote_checkpoints,
)

CURVE = "curve.jsonl"

log = logging.getLogger(__name__)

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
    artifacts: list[dict[str, Any]]
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
    return train_share(
        request, group=group, probed=loop_config["precision"], is_first_here=is_first_here
    )


def train_share(
    request: StageRequest, *, group: WorkerGroup, probed: Precision | None, is_first_here: bool
) -> Trained | Refusal | Departure:
    """Train this worker's share, once it has the others of its `group`; it needs no Ray.

    `is_first_here` is the first of its machine.
    """
    try:
        tell = reporter_of(request).progress if group.is_first else log.info
        workspace = open_workspace(request, tell=tell)
        return _train(
            fetched(request, workspace),
            group=group,
            probed=probed,
            is_first_here=is_first_here,
            workspace=workspace,
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
        evaluation_cost=evaluation_cost(
            prepared,
            batch_size=request.spec.training.batch.size,
            is_attacked=request.spec.training.adversarial is not None,
            is_highlighted=request.spec.holds_to_highlights,
        ),
    )


def _train(
    request: StageRequest,
    *,
    group: WorkerGroup,
    probed: Precision | None,
    is_first_here: bool,
    workspace: StageWorkspace | None,
) -> Trained:
    prepared = load_rows_of_stage(request)
    config = config_of(request, prepared=prepared, probed=probed, device=group.device)
    refuse_idle_early_stopping(config)
    use_tensor_cores(config.precision)
    prefer_deterministic_kernels()
    group = replace(group, is_sharded=config.is_sharded)
    output, control = Path(request.output), config.training.control
    if control:
        without_remedies(request.spec)  # which refuses a job that has none, before it is trained
    progress = _progress(request, config)
    fence = fence_of(workspace, output=output)
    remote = None
    if is_taken(request):
        # Nothing is written there, and so nothing is kept in the store.
        take_weights(request)
    else:
        remote = remote_checkpoints(workspace, folder=output / CHECKPOINTS, fence=fence)
    with _sole_writer(output, remote=remote, fence=fence, group=group):
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
        if is_taken(request):
            refuse_other_run(output, config)
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
                remote=remote,
                fence=fence,
                on_step=told,
                on_measuring=progress.measuring if group.is_first else None,
            )
            history = loop.run()
        if group.is_first:
            history.write_curve(output / CURVE)
        _export_best(loop, model, request=request, base=prepared.model, group=group)
        num_trainable = loop.num_trainable
        resumed_from = None if is_taken(request) else loop.resumed_from
        # NB: the model and its optimizer are let go of before the control has its own.
        del loop, model
        beside = (
            train_control(
                request,
                prepared,
                config=config,
                last_step=history.step,
                group=group,
                fence=fence,
                workspace=workspace,
            )
            if control
            else None
        )
        artifacts = _artifacts(request, workspace=workspace) if group.is_first else []
    return Trained(
        history=history.as_state(),
        control=beside.as_state() if beside else None,
        planned_steps=config.num_steps,
        resolved=config.resolved(),
        warmup_steps=config.warmup_steps,
        num_trainable=num_trainable,
        artifacts=[artifact.model_dump(mode="json", by_alias=True) for artifact in artifacts],
        reference_seconds=parts.reference_seconds,
        packing=packing.model_dump(by_alias=True, exclude_none=True),
        resumed_from=resumed_from,
        warnings=told.warnings,
    )


def _progress(request: StageRequest, config: TrainConfig) -> ProgressReporter:
    return ProgressReporter(
        reporter_of(request),
        total_steps=config.total_steps,
        curve=Path(request.output) / CURVE,
    )


def _export_best(
    loop: Loop, model: Any, *, request: StageRequest, base: Path, group: WorkerGroup
) -> None:
    """Write the weights of the best step, after the last one."""
    if not (group.is_first or group.is_sharded):
        # Of a whole model nothing here is a collective: this worker may go on.
        return
    loop.load_best()
    export_tuned(
        model,
        base=base,
        base_uri=request.spec.model.uri,
        output=Path(request.output),
        group=group,
    )


def _artifacts(request: StageRequest, *, workspace: StageWorkspace | None) -> list[Artifact]:
    """What the first worker leaves, in the store if its disk is its own."""
    output = Path(request.output)
    made = [
        artifact_of(TUNED, output / TUNED),
        artifact_of("curve", output / CURVE),
        *(artifact_of(name, folder) for name, folder in tracker_folders(request).items()),
    ]
    if workspace is None:
        return made
    with as_stage_errors():
        return [workspace.kept_artifact(artifact) for artifact in made]


@contextmanager
def _sole_writer(
    output: Path, *, remote: RemoteCheckpoints | None, fence: Fence, group: WorkerGroup
) -> Iterator[None]:
    """Hold the output folder and what is `remote` of it.

    A worker of a killed attempt may live for a moment longer.

    Raises:
        TimeoutError: another process still writes there.
    """
    if not group.is_first:
        yield
        return
    # Before the lock: whoever holds it is refused its next checkpoint, and ends.
    with as_stage_errors():
        fence.take()
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
        if remote is not None:
            remote.begin()
        yield
