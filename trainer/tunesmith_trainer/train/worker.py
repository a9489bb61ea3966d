"""What every Ray worker runs: load what `prepare` left, train, and on the first worker write.

`stage` names `train_on_worker` to Ray Train, which calls it once per worker, and again on fresh
workers after one was lost; it then goes on from the newest checkpoint.
"""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO, TypedDict, final

import torch

from tunesmith_engine.stages.configmap_reporter import reporter_of
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageRequest
from tunesmith_engine.stages.errors import BadInputError, StageError, VerdictError
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.models import processor_has_bf16
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import Ranks
from tunesmith_trainer.train.config import Recipe, resolve_recipe
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.loop import Loop, Watcher
from tunesmith_trainer.train.progress import ProgressWatcher, silent
from tunesmith_trainer.train.ray_cluster import threads_per_worker

CURVE = "curve.jsonl"

_LOCK_WAIT_S = 60.0


@final
class Trained(TypedDict):
    """What the first worker hands back of a run that reached its last step."""

    history: dict[str, Any]
    resolved: dict[str, Any]
    num_trainable: int
    resumed_from: int | None
    warnings: list[str]


@final
class Refusal(TypedDict):
    """A verdict on the model or its input: handed back, since Ray would retry an exception."""

    kind: Literal["bad input", "verdict"]
    reason: str
    message: str


def train_on_worker(config: dict[str, str]) -> Trained | Refusal:
    """Train this worker's share; `config["request"]` is the stage's request as JSON.

    Every worker returns; Ray hands on what the first one returned.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    request = StageRequest.model_validate_json(config["request"])
    try:
        torch.set_num_threads(threads_per_worker(_workers_on_this_node()))
        return _train(request, ranks=_ranks())
    except (BadInputError, VerdictError) as error:
        return _refusal(error)


def recipe_of(request: StageRequest, *, prepared: Prepared) -> Recipe:
    """The recipe of this request on this machine; the same on every worker."""
    spec = request.spec
    if spec.resources.gpus_per_worker:
        has_bf16 = torch.cuda.is_bf16_supported()
    else:
        has_bf16 = processor_has_bf16()
    return resolve_recipe(spec, num_rows=len(prepared.train), has_bf16=has_bf16)


def _train(request: StageRequest, *, ranks: Ranks) -> Trained:
    prepared = load_prepared(request)
    recipe = recipe_of(request, prepared=prepared)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    model = build_trainable(prepared.model, recipe=recipe, device=ranks.device)
    with _sole_writer(Path(request.output), ranks=ranks):
        loop = _loop(model, request=request, prepared=prepared, recipe=recipe, ranks=ranks)
        history = loop.run()
        if ranks.is_first:
            loop.load_best()
            export_tuned(
                model,
                base=prepared.model,
                base_uri=request.spec.model.uri,
                output=Path(request.output),
            )
    return Trained(
        history=history.as_state(),
        resolved=recipe.as_text(),
        num_trainable=loop.num_trainable,
        resumed_from=loop.resumed_from,
        warnings=_warnings(recipe, request=request),
    )


def _warnings(recipe: Recipe, *, request: StageRequest) -> list[str]:
    on_cpu = request.spec.resources.gpus_per_worker == 0
    if recipe.precision == "bf16" and on_cpu and not processor_has_bf16():
        return ["training.precision is bf16, which this processor computes only slowly; use auto"]
    return []


def _loop(
    model: Any, *, request: StageRequest, prepared: Prepared, recipe: Recipe, ranks: Ranks
) -> Loop:
    output = Path(request.output)
    watch: Watcher = silent
    if ranks.is_first:
        reporter = reporter_of(request)
        watch = ProgressWatcher(reporter, num_steps=recipe.num_steps, curve=output / CURVE)
    return Loop(
        model,
        recipe=recipe,
        train=prepared.train,
        validation=prepared.validation,
        pad_id=0,
        ranks=ranks,
        checkpoints=Checkpoints(
            output / CHECKPOINTS, recipe_digest=recipe.digest(), keep=recipe.keep
        ),
        watch=watch,
    )


def _ranks() -> Ranks:
    from ray import train
    from ray.train.torch import get_device

    context = train.get_context()
    return Ranks(rank=context.get_world_rank(), size=context.get_world_size(), device=get_device())


def _workers_on_this_node() -> int:
    from ray import train

    count: int = train.get_context().get_local_world_size()
    return count


@contextmanager
def _sole_writer(output: Path, *, ranks: Ranks) -> Iterator[None]:
    """Hold the output folder: a worker of a killed attempt may live for a moment longer.

    Raises:
        TimeoutError: another process still writes there.
    """
    if not ranks.is_first:
        yield
        return
    with (output / ".writer").open("w", encoding="utf-8") as lock:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise TimeoutError("another process still trains into the same folder")
            time.sleep(0.2)
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refusal(error: StageError) -> Refusal:
    return Refusal(
        kind="bad input" if error.bad_input else "verdict",
        reason=error.reason,
        message=error.message,
    )
