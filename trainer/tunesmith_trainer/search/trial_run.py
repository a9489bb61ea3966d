"""One trial or fold: the training loop in a process of Ray Tune's, without what is published.

`tuner` starts it, again and again in the same processes. The rows come from Ray's object store,
which all processes map; weights that stay frozen are mapped from their file until they are cast.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, cast, final

import torch

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageRequest
from tunesmith_engine.stages.errors import StageError
from tunesmith_engine.stages.trial_records import Intermediate, TrialRecord
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.devices import (
    current_device,
    prefer_deterministic_kernels,
    use_tensor_cores,
)
from tunesmith_trainer.search.termination import parts_of_rows_that_choose
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import refuse_large_batch
from tunesmith_trainer.train.early_stopping import refuse_idle_early_stopping
from tunesmith_trainer.train.fencing import fence_of
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, History
from tunesmith_trainer.train.leaving import Left
from tunesmith_trainer.train.loop import autocast
from tunesmith_trainer.train.memory_plan import settled_request
from tunesmith_trainer.train.packing_choice import decide_packing
from tunesmith_trainer.train.precision_probe import Precision
from tunesmith_trainer.train.run_parts import build_loop, run_parts
from tunesmith_trainer.train.worker import config_of

# The key of a report that ends a run; its value is a `RunEnd` as JSON.
END = "end"


@final
class RunPoint(TypedDict):
    """A measurement on the way; `value` is the lowest held-out loss so far."""

    step: int
    num_steps: int
    tokens: int
    seconds: float
    loss: float
    value: float
    is_warm: bool


@final
class RunEnd(TypedDict):
    """How a run ended; of one that did not complete only `kind` and `reason` tell something."""

    kind: Literal["completed", "pruned", "failed", "left"]
    reason: str
    objectives: dict[str, float]
    general_loss_rise: float | None
    part_losses: list[float]
    best_step: int
    num_steps: int
    tokens: int
    seconds: float
    curve: list[dict[str, Any]]


def completed_record(running: TrialRecord, end: RunEnd) -> TrialRecord:
    """The record of a run that came to its end."""
    return running.model_copy(
        update={
            "state": "completed",
            "objectives": end["objectives"],
            "general_loss_rise": end["general_loss_rise"],
            "part_losses": end["part_losses"],
            "best_step": end["best_step"],
            "num_steps": end["num_steps"],
            "tokens": end["tokens"],
            "seconds": end["seconds"],
        }
    )


def with_measurement(running: TrialRecord, point: RunPoint, *, value: float) -> TrialRecord:
    """The record with one measurement more.

    What a run shows again, that goes on from a checkpoint, it has shown already.
    """
    earlier = [each for each in running.intermediates if each.step < point["step"]]
    measured = Intermediate(tokens=point["tokens"], step=point["step"], value=value)
    return running.model_copy(update={"intermediates": [*earlier, measured]})


class RunTask(TypedDict):
    """What a process is given: the stage's request with the run's own spec and folder.

    `train` and `validation` are rows of the prepared training rows: a fold's own splits.
    """

    number: int
    request: str
    train: list[int] | None
    validation: list[int] | None


def run_in_tune(
    task: RunTask, *, prepared: Prepared, probed: Precision | None, num_threads: int
) -> None:
    """Train as `task` says; tell Ray Tune every measurement, and how it ended."""
    from ray import tune

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(num_threads)
    request = StageRequest.model_validate_json(task["request"])
    if task["train"] is not None and task["validation"] is not None:
        prepared = fold_of(prepared, train=task["train"], validation=task["validation"])
    end = run(request, prepared, probed=probed, tell=lambda point: tune.report(dict(point)))
    tune.report({END: json.dumps(end)})


def fold_of(prepared: Prepared, *, train: list[int], validation: list[int]) -> Prepared:
    """Rows of the training split alone, in both splits."""
    rejected = prepared.rejected.get("train")
    answers: dict[Any, Any] = (
        {"train": rejected.subset(train), "validation": rejected.subset(validation)}
        if rejected is not None
        else {}
    )
    return replace(
        prepared,
        train=prepared.train.subset(train),
        validation=prepared.train.subset(validation),
        rejected=answers,
        kept={"train": train},
    )


def run(
    request: StageRequest,
    prepared: Prepared,
    *,
    probed: Precision | None,
    tell: Callable[[RunPoint], object],
) -> RunEnd:
    """Train to the last step; a fault of these settings is how the run ended, and no error."""
    try:
        return _trained(request, prepared, probed=probed, tell=tell)
    except Left:
        return _without_result("left", "")
    except StageError as error:
        # It could have gone on: to a sampler that is a bad value, where a failure would be none.
        is_bound = error.reason is Reason.FORGETTING_BUDGET_EXCEEDED
        return _without_result(
            "pruned" if is_bound else "failed", f"{error.reason}: {error.message}"
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        told = str(error).splitlines()
        return _without_result("failed", f"{Reason.OUT_OF_MEMORY}: {told[0] if told else ''}")


def _trained(
    request: StageRequest,
    prepared: Prepared,
    *,
    probed: Precision | None,
    tell: Callable[[RunPoint], object],
) -> RunEnd:
    output = Path(request.output)
    output.mkdir(parents=True, exist_ok=True)
    refuse_large_batch(len(prepared.train), batch=request.spec.training.batch)
    request = settled_request(request, precision=probed)
    device = current_device()
    config = config_of(request, prepared=prepared, probed=probed, device=device)
    refuse_idle_early_stopping(config)
    use_tensor_cores(config.precision)
    prefer_deterministic_kernels()
    group = WorkerGroup(rank=0, size=1, device=device)
    fence = fence_of(None, output=output)
    # A process of a killed attempt may live for a moment: it is refused its next checkpoint.
    fence.take()
    # NB: the adapters' first values and the masks of dropout are drawn from these.
    model = build_trainable(prepared.model, config=config, device=device)
    packing = decide_packing(
        model,
        config=config,
        tokens=prepared.train,
        group=group,
        autocast=partial(autocast, device, precision=config.precision),
        folder=output,
    )
    config = replace(config, packing=packing.packing)
    parts = run_parts(model, request=request, prepared=prepared, config=config, group=group)
    loop = build_loop(
        model,
        parts,
        prepared=prepared,
        config=config,
        group=group,
        checkpoints=output / CHECKPOINTS,
        fence=fence,
        on_step=_Teller(tell, num_steps=config.num_steps, warmup_steps=config.warmup_steps),
    )
    history = loop.run()
    return _end(
        history,
        num_trainable=loop.num_trainable,
        num_steps=config.num_steps,
        parts=parts_of_rows_that_choose(request, prepared),
    )


class _Teller:
    """Tells each measurement once, also those of a run that goes on from a checkpoint."""

    def __init__(
        self, tell: Callable[[RunPoint], object], *, num_steps: int, warmup_steps: int
    ) -> None:
        self._tell = tell
        self._num_steps = num_steps
        self._warmup_steps = warmup_steps

    def __call__(self, history: History, *, epoch: float) -> None:
        del epoch
        last = history.latest(HELD_OUT)
        if last is None or last["step"] != history.step or history.best_loss is None:
            return
        self._tell(
            RunPoint(
                step=history.step,
                num_steps=self._num_steps,
                tokens=history.tokens,
                seconds=history.seconds,
                loss=float(str(last["loss"])),
                value=history.best_loss,
                is_warm=history.step > self._warmup_steps,
            )
        )


def _end(history: History, *, num_trainable: int, num_steps: int, parts: list[list[int]]) -> RunEnd:
    losses, units = history.best_sums[HELD_OUT], history.units[HELD_OUT]
    return RunEnd(
        kind="completed",
        reason="",
        objectives={
            "heldOutLoss": cast("float", history.best_loss),
            "generalLoss": history.measured_at(history.best_step, kind=GENERAL),
            "trainableParameters": float(num_trainable),
            "tokensPerSecond": round(history.tokens / max(history.seconds, 1e-9), 1),
        },
        general_loss_rise=dict(history.rises(GENERAL)).get(history.best_step),
        part_losses=[
            sum(losses[row] for row in part) / sum(units[row] for row in part) for part in parts
        ],
        best_step=history.best_step,
        num_steps=num_steps,
        tokens=history.tokens,
        seconds=history.seconds,
        curve=[dict(point) for point in history.points if point["kind"] == HELD_OUT],
    )


def _without_result(kind: Literal["pruned", "failed", "left"], reason: str) -> RunEnd:
    return RunEnd(
        kind=kind,
        reason=reason,
        objectives={},
        general_loss_rise=None,
        part_losses=[],
        best_step=0,
        num_steps=0,
        tokens=0,
        seconds=0.0,
        curve=[],
    )
