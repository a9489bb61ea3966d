"""What a run is made of: its objective, its sampler and its measures, from config and rows.

`worker` hands them to the `loop`, which knows no more of a job than these.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tunesmith_trainer.data.prepared import Prepared, Split
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import RowSampler, Sampler
from tunesmith_trainer.train.history import HELD_OUT
from tunesmith_trainer.train.loop import autocast
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.dpo import DirectPreference, preference_measures
from tunesmith_trainer.train.objectives.objective import Objective
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.objectives.reference import ReferencePass

# In the output of the stage: log-probabilities of the reference, by split.
_REFERENCE: Final = "reference-{split}.safetensors"


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the loop is given; `reference_seconds` is what DPO's reference cost."""

    objective: Objective
    sampler: Sampler
    measures: Mapping[str, Objective]
    reference_seconds: float | None = None


def run_parts(
    prepared: Prepared, *, model: Any, config: TrainConfig, group: WorkerGroup, output: Path
) -> RunParts:
    """The parts of this run; `model` is as it was built.

    NB: called by every worker, before a checkpoint is read: DPO's reference is computed here.
    """
    training = config.training
    sampler = RowSampler(len(prepared.train), batch_size=training.batch.size, seed=training.seed)
    if training.objective == "sft":
        return RunParts(
            objective=CrossEntropy(prepared.train, device=group.device),
            sampler=sampler,
            measures={HELD_OUT: CrossEntropy(prepared.validation, device=group.device)},
        )
    reference = ReferencePass(
        model=model,
        group=group,
        autocast=partial(autocast, group.device, precision=config.precision),
        micro_batch_size=training.batch.micro_batch_size,
        config_digest=config.digest(),
    )

    def preference(split: Split, rows: Iterable[int]) -> tuple[DirectPreference, float]:
        chosen = prepared.train if split == "train" else prepared.validation
        pairs = Pairs(chosen, prepared.rejected[split], device=group.device)
        file = output / _REFERENCE.format(split=split)
        values, seconds = reference.log_probabilities(pairs, rows, file=file)
        return DirectPreference(pairs, values, settings=training.dpo), seconds

    # A run of few steps over many pairs never sees most of them.
    drawn = {row for step in range(config.num_steps) for row in sampler.rows_of(step + 1)}
    objective, seconds = preference("train", drawn)
    held_out, more_seconds = preference("validation", range(len(prepared.validation)))
    return RunParts(
        objective=objective,
        sampler=sampler,
        measures=preference_measures(held_out),
        reference_seconds=seconds + more_seconds,
    )
