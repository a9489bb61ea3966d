"""How a step of training is cut so that it fits a device: rows of a pass, recomputed layers.

`settle` fills in what the manifest leaves open, `ways_to_fit` says what would help where even that
is too much. Pure; `capacity` knows what there is, `stages/training_memory.py` what is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.finetunejob.gradient_checkpointing import ALL, AUTO, NONE
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.memory import Workload
from tunesmith_engine.stages.training_memory import (
    USUAL_ROWS,
    rows_per_pass,
    rows_per_worker,
    tokens_per_pass,
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


def settle(workload: Workload, *, room: int | None) -> FineTuneJobSpec:
    """The spec with `microBatchSize` and `gradientCheckpointing` filled in for `room` bytes.

    `room` is what each worker or its accelerator may take; None, where nobody knows, gives what
    takes most of it. Where nothing fits, it is what takes least.
    """
    cuts = list(_cuts(workload.spec, knows_room=room is not None))
    for spec in cuts:
        peak = worker_memory(Workload(spec, workload.facts, workload.longest_row)).total
        if room is None or _MARGIN * peak <= room:
            return spec
    return cuts[-1]


def num_accumulated(spec: FineTuneJobSpec) -> int:
    """Forward passes of a worker whose gradients make up one step."""
    return -(-rows_per_worker(spec) // rows_per_pass(spec))


def ways_to_fit(workload: Workload) -> tuple[Way, ...]:
    """Changes of a settled spec that lower the peak, by themselves and then together."""
    return tuple(
        Way(change, worker_memory(Workload(spec, workload.facts, longest)).total)
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
    spec, longest = workload.spec, workload.longest_row
    training = spec.training
    rows, level = rows_per_pass(spec), training.gradient_checkpointing
    if rows > 1:
        smaller = changed(spec, micro_batch_size=1)
        yield "training.batch.microBatchSize: 1", smaller, longest
    if level != ALL:
        again = changed(spec, micro_batch_size=rows, gradient_checkpointing=ALL)
        yield "training.gradientCheckpointing: all", again, longest
    if rows > 1 and level != ALL:
        both = changed(spec, micro_batch_size=1, gradient_checkpointing=ALL)
        yield "both", both, longest
    if training.method == "full":
        yield "training.method: lora", changed(spec, micro_batch_size=rows, method="lora"), longest
    length = tokens_per_pass(workload) // rows // (2 if training.objective == "dpo" else 1) // 2
    least = changed(spec, micro_batch_size=1, gradient_checkpointing=ALL)
    while length >= _SHORTEST_PROPOSED:
        yield f"training.sequenceLength: {length} with least of all else", least, length
        length //= 2
