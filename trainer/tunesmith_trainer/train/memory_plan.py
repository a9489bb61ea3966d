"""How a step is cut so that it fits the memory: asked by `stage`, once, before there are workers.

What the manifest leaves open is settled by the engine's estimate, the job's longest row and what
each worker may take. The answer is kept in the stage's output: a resumed run adds up its gradients
in the order that it began with, on whatever machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel

from tunesmith_api.finetunejob.gradient_checkpointing import AUTO, NONE, every_n_layers
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.reasons import Reason
from tunesmith_engine.capacity import in_gib, room_for_training
from tunesmith_engine.estimates import workload_of
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import TransientError
from tunesmith_engine.stages.memory_fit import changed, settle, ways_to_fit
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_engine.stages.training_memory import (
    checkpointed,
    num_accumulated,
    rows_per_pass,
    worker_memory,
)
from tunesmith_trainer.train.precision_probe import Precision

ANSWER: Final = "memory.json"


class MemoryPlan(BaseModel):
    """What was settled, and the peak of a worker by the estimate; None where that is not known.

    `saved_bytes` is what checkpointing takes off it, at the cost of computing `recomputed_share` of
    the layers' forward passes twice.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    micro_batch_size: int
    accumulated: int
    gradient_checkpointing: str
    recomputed_share: float = 0.0
    estimated_peak_bytes: int | None = None
    saved_bytes: int | None = None


def settled_request(request: StageRequest, *, precision: Precision | None) -> StageRequest:
    """The request, its spec with nothing left open that the memory decides."""
    plan = memory_plan(request, precision=precision)
    spec = changed(
        request.spec,
        micro_batch_size=plan.micro_batch_size,
        gradient_checkpointing=plan.gradient_checkpointing,
    )
    return request.model_copy(update={"spec": spec})


def memory_plan(request: StageRequest, *, precision: Precision | None) -> MemoryPlan:
    """The answer that the output folder keeps, or else a new one, which it keeps from then on.

    `precision` is the processor's faster type, None where accelerators train. What the manifest
    says now counts before what was settled then.
    """
    kept = Path(request.output) / ANSWER
    if kept.is_file():
        before = MemoryPlan.model_validate_json(kept.read_text(encoding="utf-8"))
        if _fits_manifest(before, request.spec):
            return before
    plan = _settled(request, precision=precision)
    write_atomically(kept, plan.model_dump_json(by_alias=True))
    return plan


def memory_facts(request: StageRequest) -> dict[str, JsonValue]:
    """The answer that the output folder keeps, for the stage's facts."""
    kept = (Path(request.output) / ANSWER).read_text(encoding="utf-8")
    return MemoryPlan.model_validate_json(kept).model_dump(by_alias=True)


@contextmanager
def advice_on_memory(request: StageRequest) -> Iterator[None]:
    """Tell, where a worker ran out of memory, what was expected and what takes less.

    `request` is settled.
    """
    try:
        yield
    except TransientError as error:
        if error.reason not in {Reason.OUT_OF_MEMORY, Reason.DEVICE_OUT_OF_MEMORY}:
            raise
        raise TransientError(error.reason, f"{error.message}; {_advice(request)}") from error


def _advice(request: StageRequest) -> str:
    prepared = request.inputs[PREPARE.name]
    workload = workload_of(request.spec, prepared)
    if workload is None:
        return "lower training.batch.microBatchSize"
    told = [f"{way.change} ({in_gib(way.worker_bytes)})" for way in ways_to_fit(workload)]
    expected = in_gib(worker_memory(workload).total)
    return f"{expected} were expected of a worker; less: {', '.join(told) or 'a smaller model'}"


def _settled(request: StageRequest, *, precision: Precision | None) -> MemoryPlan:
    spec, prepared = request.spec, request.inputs[PREPARE.name]
    workload = workload_of(spec, prepared)
    if workload is None:
        return _plan_of(spec)
    if spec.training.precision == "auto" and precision is not None:
        training = spec.training.model_copy(update={"precision": precision})
        spec = spec.model_copy(update={"training": training})
    spec = settle(replace(workload, spec=spec), room=_room(request))
    peak, num_layers = worker_memory(replace(workload, spec=spec)).total, workload.facts.num_layers
    plain = changed(spec, micro_batch_size=rows_per_pass(spec), gradient_checkpointing=NONE)
    distance = every_n_layers(checkpointed(spec.training))
    return _plan_of(spec).model_copy(
        update={
            "recomputed_share": round(-(-num_layers // distance) / num_layers, 3)
            if distance
            else 0.0,
            "estimated_peak_bytes": peak,
            "saved_bytes": worker_memory(replace(workload, spec=plain)).total - peak,
        }
    )


def _plan_of(spec: FineTuneJobSpec) -> MemoryPlan:
    return MemoryPlan(
        micro_batch_size=rows_per_pass(spec),
        accumulated=num_accumulated(spec),
        gradient_checkpointing=checkpointed(spec.training),
    )


def _fits_manifest(plan: MemoryPlan, spec: FineTuneJobSpec) -> bool:
    training = spec.training
    return training.batch.micro_batch_size in {
        None,
        plan.micro_batch_size,
    } and training.gradient_checkpointing in {AUTO, plan.gradient_checkpointing}


def _room(request: StageRequest) -> int | None:
    told = room_for_training(request)
    # The driver of this machine knows better than a label, where the stage runs beside a device.
    if request.spec.resources.gpus_per_worker and torch.accelerator.is_available():
        return int(torch.accelerator.get_memory_info()[1])
    return told
