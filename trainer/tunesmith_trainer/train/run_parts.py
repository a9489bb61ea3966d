"""The loop and what it is given: objective, sampler and measures, from spec and data.

`worker` asks for them, the same on every worker.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared, Split, load_replay
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.adapters import build_frozen
from tunesmith_trainer.train.attribution_objective import attribution_objective
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import ReplaySampler, RowSampler, Sampler
from tunesmith_trainer.train.fencing import Fence
from tunesmith_trainer.train.group_objective import group_objective
from tunesmith_trainer.train.history import (
    GENERAL,
    TEACHER_KL,
    TRAIN_SAMPLE,
    History,
)
from tunesmith_trainer.train.loop import Loop, StepCallback, autocast
from tunesmith_trainer.train.measures import (
    MOST_TARGETS,
    build_measures,
    general_rows,
    sample_of,
    sample_rows,
    wanted_targets,
)
from tunesmith_trainer.train.objectives.adversarial import (
    FreeLb,
    VirtualAdversarial,
)
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.dpo import (
    DirectPreference,
    PreferenceLoss,
    preference_measures,
)
from tunesmith_trainer.train.objectives.group_weights import GroupWeights
from tunesmith_trainer.train.objectives.kl_to_base import (
    BaseReference,
    CrossEntropyNearBase,
)
from tunesmith_trainer.train.objectives.objective import Measure, Objective
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.objectives.reference import ReferencePass
from tunesmith_trainer.train.packing import LayOut, bin_capacity, end_to_end, one_per_line
from tunesmith_trainer.train.rationale_objective import rationale_objective
from tunesmith_trainer.train.remote_checkpoints import RemoteCheckpoints
from tunesmith_trainer.train.teacher import from_teacher, teacher_of, with_teacher

# In the output of the stage: log-probabilities of DPO's reference, by split.
_REFERENCE: Final = "reference-{split}.safetensors"


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the loop is given; `reference_seconds` is what DPO's reference cost.

    `group_weights` are those of an objective that moves them.
    """

    objective: Objective
    sampler: Sampler
    measures: Mapping[str, Measure]
    reference_seconds: float | None = None
    group_weights: GroupWeights | None = None


def run_parts(
    model: Any,
    *,
    request: StageRequest,
    prepared: Prepared,
    config: TrainConfig,
    group: WorkerGroup,
) -> RunParts:
    """The parts of this run; `model` is as it was built.

    NB: called by every worker, before a checkpoint is read: DPO's reference is computed here.

    Raises:
        StageError: the general text of the manifest cannot be read or holds nothing.
    """
    if config.training.objective == "dpo":
        return _preference_parts(
            model, request=request, prepared=prepared, config=config, group=group
        )
    reference = _base_reference(config, prepared, device=group.device)
    teacher = teacher_of(request, config, device=group.device)
    replay = load_replay(request) if config.replay_ratio else None
    measures = build_measures(
        request,
        prepared,
        reference=reference,
        attack=config.attack,
        remedy=config.compared_groups,
        explanation=config.measured_reasons,
        device=group.device,
        lay_out_of=partial(lay_out_of_rows, config),
    )
    if teacher is not None:
        compared = sample_of(prepared.validation, num_targets=MOST_TARGETS)
        lay_out = lay_out_of_rows(config, compared.lengths)
        measures[TEACHER_KL] = from_teacher(teacher, compared, device=group.device, lay_out=lay_out)
    sampler, training = build_sampler(config, prepared, replay), config.training
    rows: dict[str, Any] = {
        "request": request,
        "prepared": prepared,
        "rows": _with_replay(prepared, replay),
        "config": config,
        "device": group.device,
        "lay_out_of": partial(lay_out_of_rows, config),
    }
    if training.fairness is not None:
        grouped = group_objective(training.fairness, **rows)
        return RunParts(grouped.objective, sampler, measures, group_weights=grouped.weights)
    if training.explanation is not None:
        is_told_why = training.explanation.learns_rationales
        explained = rationale_objective if is_told_why else attribution_objective
        return RunParts(explained(training.explanation, **rows), sampler, measures)
    objective = _objective(
        config, prepared, replay, reference=reference, teacher=teacher, device=group.device
    )
    return RunParts(objective, sampler, measures)


def _preference_parts(
    model: Any,
    *,
    request: StageRequest,
    prepared: Prepared,
    config: TrainConfig,
    group: WorkerGroup,
) -> RunParts:
    sampler = build_sampler(config, prepared, None)
    reference = ReferencePass(
        model=model,
        group=group,
        autocast=partial(autocast, group.device, precision=config.precision),
        micro_batch_size=config.micro_batch_size,
        config_digest=config.digest(),
    )

    def preference(split: Split, rows: Iterable[int]) -> tuple[DirectPreference, float]:
        chosen = prepared.train if split == "train" else prepared.validation
        pairs = Pairs(chosen, prepared.rejected[split], device=group.device)
        file = Path(request.output) / _REFERENCE.format(split=split)
        values, seconds = reference.log_probabilities(pairs, rows, file=file)
        return DirectPreference(pairs, values, settings=config.training.dpo), seconds

    sample = sample_rows(prepared.train, num_targets=wanted_targets(prepared))
    # A run of few steps over many pairs never sees most of them.
    drawn = {row for step in range(config.num_steps) for row in sampler.rows_of(step + 1)}
    objective, seconds = preference("train", {*drawn, *sample})
    held_out, more_seconds = preference("validation", range(len(prepared.validation)))
    general = CrossEntropy(general_rows(request, prepared), device=group.device)
    return RunParts(
        objective=objective,
        sampler=sampler,
        measures={
            **preference_measures(held_out),
            TRAIN_SAMPLE: PreferenceLoss(objective.subset(sample)),
            GENERAL: general,
        },
        reference_seconds=seconds + more_seconds,
    )


def build_loop(
    model: Any,
    parts: RunParts,
    *,
    prepared: Prepared,
    config: TrainConfig,
    group: WorkerGroup,
    checkpoints: Path,
    remote: RemoteCheckpoints | None = None,
    fence: Fence,
    on_step: StepCallback | None,
    on_measuring: Callable[[History, float], None] | None = None,
    last_step: int | None = None,
) -> Loop:
    """The loop over `model`, with its checkpoints in that folder; `last_step` as in `Loop`.

    `remote` is where they are kept if the workers share no folder, `fence` ends a run in whose
    place another has begun.
    """
    return Loop(
        model,
        config=config,
        objective=parts.objective,
        sampler=parts.sampler,
        measures=parts.measures,
        group=group,
        checkpoints=Checkpoints(
            checkpoints,
            config_digest=config.digest(),
            keep=config.checkpoint.keep,
            settings=config.resolved(),
            remote=remote,
            # Of these, a disk of their own needs none.
            fence=fence if remote is None else None,
        ),
        name_rows=partial(sources_of, prepared),
        on_step=on_step,
        on_measuring=on_measuring,
        last_step=last_step,
        group_weights=parts.group_weights,
    )


def _base_reference(
    config: TrainConfig, prepared: Prepared, *, device: torch.device
) -> BaseReference | None:
    if not config.training.compares_with_base:
        return None
    if config.training.method == "lora":
        return BaseReference()
    return BaseReference(build_frozen(prepared.model, config=config, device=device))


def _objective(
    config: TrainConfig,
    prepared: Prepared,
    replay: TokenRows | None,
    *,
    reference: BaseReference | None,
    teacher: Any | None,
    device: torch.device,
) -> Objective:
    if teacher is not None:
        rows = _with_replay(prepared, replay)
        lay_out = lay_out_of_rows(config, rows.lengths)
        return with_teacher(teacher, rows, config=config, device=device, lay_out=lay_out)
    plain = _plain_objective(config, prepared, replay, reference=reference, device=device)
    adversarial = config.training.adversarial
    if adversarial is None:
        return plain
    attacked = FreeLb if adversarial.type == "freelb" else VirtualAdversarial
    return attacked(plain, settings=adversarial)


def _plain_objective(
    config: TrainConfig,
    prepared: Prepared,
    replay: TokenRows | None,
    *,
    reference: BaseReference | None,
    device: torch.device,
) -> CrossEntropy:
    training = config.training
    rows = _with_replay(prepared, replay)
    penalty = training.kl_to_base
    lay_out = lay_out_of_rows(config, rows.lengths)
    if penalty is None or reference is None:
        return CrossEntropy(
            rows,
            device=device,
            lay_out=lay_out,
            regularization=training.regularization,
            is_compiled=training.compile,
        )
    return CrossEntropyNearBase(
        rows,
        weight=penalty.weight,
        reference=reference,
        device=device,
        lay_out=lay_out,
        regularization=training.regularization,
    )


def _with_replay(prepared: Prepared, replay: TokenRows | None) -> TokenRows:
    return prepared.train if replay is None else prepared.train.followed_by(replay)


def lay_out_of_rows(config: TrainConfig, lengths: NDArray[np.int64]) -> LayOut:
    """How rows lie in the lines of a forward pass."""
    if config.packing == "none":
        return one_per_line
    size = config.micro_batch_size
    return partial(end_to_end, max_tokens=bin_capacity(lengths, size=size))


def build_sampler(config: TrainConfig, prepared: Prepared, replay: TokenRows | None) -> Sampler:
    """The rows of each step; those of `replay` are numbered behind the job's own."""
    size, seed = config.training.batch.size, config.training.seed
    if replay is None:
        return RowSampler(len(prepared.train), batch_size=size, seed=seed)
    return ReplaySampler(
        len(prepared.train),
        num_replay=len(replay),
        ratio=config.replay_ratio,
        batch_size=size,
        seed=seed,
    )


def sources_of(prepared: Prepared, rows: list[int]) -> list[str]:
    """Where in the user's data these training rows stand; replay rows have only a number."""
    records = prepared.records("train")
    return [
        records[row].source if row < len(records) else f"replay row {row - len(records)}"
        for row in rows
    ]
