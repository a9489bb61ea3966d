"""How a step of training is cut so that it fits a device: rows of a pass, recomputed layers.

`settle` fills in what the manifest leaves open, `ways_to_fit` says what would help where even that
is too much. Pure; `capacity` knows what there is, `training_memory.py` what is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from tunesmith_api.finetunejob.gradient_checkpointing import ALL, AUTO, NONE, GradientCheckpointing
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.memory import RAY_BYTES, Workload
from tunesmith_engine.stages.training_memory import (
    USUAL_ROWS,
    WorkerMemory,
    checkpointed,
    num_accumulated,
    rows_per_pass,
    rows_per_worker,
    tokens_per_row,
    worker_memory,
)

# What is picked may come out so much larger than it was estimated.
_MARGIN: Final = 1.1
# As few layers as do, and fewer rows before any: a pass more costs less than a layer twice.
_LEVELS: Final = (NONE, "every4", "every2", ALL)
# Rows shorter than this are none that a remedy should propose.
_SHORTEST_PROPOSED: Final = 128


@dataclass(frozen=True, slots=True)
class Way:
    """A change of fields, in words, and what a worker would then take, in bytes."""

    change: str
    worker_bytes: int


@dataclass(frozen=True, slots=True)
class TrainingFit:
    """A settled step: `worker` is the peak of one of the workers, `ways` would lower it.

    A worker takes `accumulated` forward passes of `micro_batch_size` rows a step.
    """

    micro_batch_size: int
    accumulated: int
    gradient_checkpointing: GradientCheckpointing
    worker: WorkerMemory
    ways: tuple[Way, ...]
    num_workers: int
    on_accelerators: bool

    def with_workers_of(self, size: int) -> int:
        """What training takes with workers of `size` bytes: of each accelerator, or in all."""
        return size if self.on_accelerators else RAY_BYTES + self.num_workers * size


def fit_of(workload: Workload) -> TrainingFit:
    """Of a spec as it is, with nothing known of the memory."""
    spec = workload.spec
    return TrainingFit(
        micro_batch_size=rows_per_pass(spec),
        accumulated=num_accumulated(spec),
        gradient_checkpointing=checkpointed(spec.training),
        worker=worker_memory(workload),
        ways=ways_to_fit(workload),
        num_workers=spec.resources.workers,
        on_accelerators=spec.resources.gpus_per_worker > 0,
    )


def settle(workload: Workload, *, room: int | None) -> FineTuneJobSpec:
    """The spec with `microBatchSize` and `gradientCheckpointing` filled in for `room` bytes.

    `room` is what each worker or its accelerator may take; None, where nobody knows, gives what
    takes most of it. Where nothing fits, it is what takes least.
    """
    cuts = list(_cuts(workload.spec, knows_room=room is not None))
    for spec in cuts:
        peak = worker_memory(replace(workload, spec=spec)).total
        if room is None or _MARGIN * peak <= room:
            return spec
    return cuts[-1]


def ways_to_fit(workload: Workload) -> tuple[Way, ...]:
    """Changes of a settled spec that lower the peak, by themselves and then together."""
    return tuple(
        Way(change, worker_memory(replace(workload, spec=spec, longest_row=longest)).total)
        for change, spec, longest in _changes(workload)
    )


def _cuts(spec: FineTuneJobSpec, *, knows_room: bool) -> Iterator[FineTuneJobSpec]:
    """Every way to cut a step that the manifest leaves open, the preferred one first."""
    batch, setting = spec.training.batch, spec.training.gradient_checkpointing
    most = rows_per_worker(spec)
    # An accelerator is the busier the more it gets at a time.
    if not (knows_room and spec.resources.gpus_per_worker):
        most = min(most, USUAL_ROWS)
    rows = [batch.micro_batch_size] if batch.micro_batch_size else list(_halves(most))
    levels = _LEVELS if setting == AUTO else (setting,)
    for level in levels:
        # Once layers are computed again, as few rows as can be: what is saved is for the memory.
        for size in rows if level == levels[0] else rows[-1:]:
            yield changed(spec, micro_batch_size=size, gradient_checkpointing=level)


def changed(spec: FineTuneJobSpec, *, micro_batch_size: int, **training: Any) -> FineTuneJobSpec:
    """The spec with these fields of `training` and of its batch."""
    batch = spec.training.batch.model_copy(update={"micro_batch_size": micro_batch_size})
    update = {"batch": batch, **training}
    return spec.model_copy(update={"training": spec.training.model_copy(update=update)})


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        yield number
        number = -(-number // 2)
    yield 1


def _changes(workload: Workload) -> Iterator[tuple[str, FineTuneJobSpec, int | None]]:
    """What may be changed, in words, the spec then, and its longest row."""
    spec, longest = workload.spec, workload.longest_row
    training = spec.training
    rows = rows_per_pass(spec)
    fewer = ["training.batch.microBatchSize: 1"] if rows > 1 else []
    again = ["training.gradientCheckpointing: all"] if checkpointed(training) != ALL else []
    if fewer:
        yield fewer[0], changed(spec, micro_batch_size=1), longest
    if again:
        spared = changed(spec, micro_batch_size=rows, gradient_checkpointing=ALL)
        yield again[0], spared, longest
    least = changed(spec, micro_batch_size=1, gradient_checkpointing=ALL)
    if fewer and again:
        yield " with ".join(fewer + again), least, longest
    if training.method == "full":
        yield "training.method: lora", changed(spec, micro_batch_size=rows, method="lora"), longest
    yield from ((way, kept, longest) for way, kept in _held_otherwise(spec, rows=rows))
    length = tokens_per_row(workload) // 2
    while length >= _SHORTEST_PROPOSED:
        shorter = f"training.sequenceLength: {length}"
        yield " with ".join([shorter, *fewer, *again]), least, length
        length //= 2


def _held_otherwise(spec: FineTuneJobSpec, *, rows: int) -> Iterator[tuple[str, FineTuneJobSpec]]:
    """The same step with its weights in parts, or in four bits: what accelerators are good at."""
    if not spec.resources.gpus_per_worker:
        return
    training, lora = spec.training, spec.training.lora
    is_plain = lora.quantization == "none" and training.optimizer.type == "adamw"
    if training.parallelism == "ddp":
        if spec.resources.workers > 1 and is_plain and not lora.use_dora:
            sharded = changed(spec, micro_batch_size=rows, parallelism="fsdp")
            yield "training.parallelism: fsdp", sharded
        if training.method == "lora" and not training.is_quantized:
            four_bits = lora.model_copy(update={"quantization": "nf4"})
            quantized = changed(spec, micro_batch_size=rows, lora=four_bits)
            yield "training.lora.quantization: nf4", quantized
