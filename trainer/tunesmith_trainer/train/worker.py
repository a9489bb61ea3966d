"""What every Ray worker runs: load what `prepare` left, train, and on the first worker write.

`ray_train` names `train_on_worker` to Ray Train, which calls it once per worker, and again on fresh
workers after one was lost; it then goes on from the newest checkpoint.
"""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, final

import torch

from tunesmith_engine.stages.configmap_reporter import reporter_of
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageRequest
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.models import processor_has_bf16
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig, resolve_config
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.loop import Loop
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.ray_cluster import threads_per_worker
from tunesmith_trainer.train.run_parts import run_parts

CURVE = "curve.jsonl"

# A worker of a killed attempt leaves within seconds of its Ray; it may be at a checkpoint still.
_LOCK_WAIT_S = 60.0


@final
class Trained(TypedDict):
    """What the first worker hands back of a run that reached its last step."""

    history: dict[str, Any]
    resolved: dict[str, str]
    warmup_steps: int
    num_trainable: int
    reference_seconds: float | None
    resumed_from: int | None
    warnings: list[str]


@final
class Refusal(TypedDict):
    """A verdict on the model or its input: handed back, since Ray would retry an exception."""

    kind: Literal["bad input", "verdict"]
    reason: str
    message: str


def train_on_worker(loop_config: dict[str, str]) -> Trained | Refusal:
    """Train this worker's share; `loop_config["request"]` is the stage's request as JSON.

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
    try:
        return _train(request, group=group)
    except (BadInputError, VerdictError) as error:
        return Refusal(
            kind="bad input" if error.bad_input else "verdict",
            reason=error.reason,
            message=error.message,
        )


def config_of(request: StageRequest, *, prepared: Prepared) -> TrainConfig:
    """The configuration of this request on this machine; the same on every worker."""
    # NB: by the processor it runs on. On nodes of different kinds workers would disagree, and so
    # would the digests of their checkpoints; `precision: bf16` or `fp32` settles it.
    if request.spec.resources.gpus_per_worker:
        has_bf16 = torch.cuda.is_bf16_supported()
    else:
        has_bf16 = processor_has_bf16()
    return resolve_config(request.spec, num_rows=len(prepared.train), has_bf16=has_bf16)


def _train(request: StageRequest, *, group: WorkerGroup) -> Trained:
    prepared = load_prepared(request)
    config = config_of(request, prepared=prepared)
    # warn_only: an operation without a deterministic kernel trains on; its curve may then differ
    # in the last bits when it is resumed.
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    model = build_trainable(prepared.model, config=config, device=group.device)
    output = Path(request.output)
    with _sole_writer(output, group=group):
        parts = run_parts(prepared, model=model, config=config, group=group, output=output)
        loop = Loop(
            model,
            config=config,
            objective=parts.objective,
            sampler=parts.sampler,
            measures=parts.measures,
            group=group,
            checkpoints=Checkpoints(
                output / CHECKPOINTS, config_digest=config.digest(), keep=config.checkpoint.keep
            ),
            on_step=ProgressReporter(
                reporter_of(request), num_steps=config.num_steps, curve=output / CURVE
            )
            if group.is_first
            else None,
        )
        history = loop.run()
        if group.is_first:
            # After the last step, and not by the other workers: no collective is called from here
            # on, so they may return while this one writes.
            loop.load_best()
            export_tuned(model, base=prepared.model, base_uri=request.spec.model.uri, output=output)
    return Trained(
        history=history.as_state(),
        resolved=config.resolved(),
        warmup_steps=config.warmup_steps,
        num_trainable=loop.num_trainable,
        reference_seconds=parts.reference_seconds,
        resumed_from=loop.resumed_from,
        warnings=_warnings(config, request=request),
    )


def _warnings(config: TrainConfig, *, request: StageRequest) -> list[str]:
    on_cpu = request.spec.resources.gpus_per_worker == 0
    if config.precision == "bf16" and on_cpu and not processor_has_bf16():
        return ["training.precision is bf16, which this processor computes only slowly; use auto"]
    return []


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
