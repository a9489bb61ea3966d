"""The loop and what it is given: objective, sampler and measures, from spec and data.

`worker` asks for them, the same on every worker. A measure costs a forward pass over its rows at
each evaluation, so those beside the held-out rows are samples.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_api.finetunejob.adversarial import Adversarial
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared, Split, load_replay
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.general_text import load_general_text
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.train.adapters import build_frozen
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import ReplaySampler, RowSampler, Sampler
from tunesmith_trainer.train.fencing import Fence
from tunesmith_trainer.train.history import (
    ATTACKED,
    GENERAL,
    HELD_OUT,
    KL,
    TEACHER_KL,
    TRAIN_SAMPLE,
    History,
)
from tunesmith_trainer.train.loop import Loop, StepCallback, autocast
from tunesmith_trainer.train.objectives.adversarial import (
    FreeLb,
    UnderAttack,
    VirtualAdversarial,
)
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.dpo import (
    DirectPreference,
    PreferenceLoss,
    preference_measures,
)
from tunesmith_trainer.train.objectives.kl_to_base import (
    BaseReference,
    CrossEntropyNearBase,
    KlToBase,
)
from tunesmith_trainer.train.objectives.objective import Measure, Objective
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.objectives.reference import ReferencePass
from tunesmith_trainer.train.packing import LayOut, bin_capacity, end_to_end, one_per_line
from tunesmith_trainer.train.remote_checkpoints import RemoteCheckpoints
from tunesmith_trainer.train.teacher import from_teacher, teacher_of, with_teacher

# Targets of a sample: an interval over some hundred rows, in seconds on a processor.
_MOST_TARGETS = 4096
# Of forward passes: so long an attack takes. Of this part of the held-out tokens it costs about
# twice what the held-out rows do.
_PASSES_OF_ATTACK = 16
_ATTACKED_SHARE = 1 / 8
_FEWEST_ATTACKED_TOKENS = 1024
# Of the general text at least so many, however few held-out rows there are.
_FEWEST_GENERAL_TARGETS = 512
# Tokens of a row of the general text; prepare's own rows may be far shorter than its passages.
_WIDEST_GENERAL = 256
_NARROWEST_GENERAL = 16
# In the output of the stage: log-probabilities of DPO's reference, by split.
_REFERENCE: Final = "reference-{split}.safetensors"
# Not the job's seed: two jobs on the same rows measure the same sample.
_SAMPLE_SEED = 0


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the loop is given; `reference_seconds` is what DPO's reference cost."""

    objective: Objective
    sampler: Sampler
    measures: Mapping[str, Measure]
    reference_seconds: float | None = None


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
        device=group.device,
        lay_out_of=partial(lay_out_of_rows, config),
    )
    if teacher is not None:
        compared = sample_of(prepared.validation, num_targets=_MOST_TARGETS)
        measures[TEACHER_KL] = from_teacher(
            teacher, compared, device=group.device, lay_out=lay_out_of_rows(config, compared)
        )
    return RunParts(
        objective=_objective(
            config, prepared, replay, reference=reference, teacher=teacher, device=group.device
        ),
        sampler=build_sampler(config, prepared, replay),
        measures=measures,
    )


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

    sample = sample_rows(prepared.train, num_targets=_wanted_targets(prepared))
    # A run of few steps over many pairs never sees most of them.
    drawn = {row for step in range(config.num_steps) for row in sampler.rows_of(step + 1)}
    objective, seconds = preference("train", {*drawn, *sample})
    held_out, more_seconds = preference("validation", range(len(prepared.validation)))
    general = CrossEntropy(_general_rows(request, prepared), device=group.device)
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
        rows = prepared.train if replay is None else prepared.train.followed_by(replay)
        lay_out = lay_out_of_rows(config, rows)
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
    rows = prepared.train if replay is None else prepared.train.followed_by(replay)
    penalty = training.kl_to_base
    lay_out = lay_out_of_rows(config, rows)
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


def lay_out_of_rows(config: TrainConfig, rows: TokenRows) -> LayOut:
    """How rows lie in the lines of a forward pass."""
    if config.packing == "none":
        return one_per_line
    size = config.micro_batch_size
    return partial(end_to_end, max_tokens=bin_capacity(rows.lengths, size=size))


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


def build_measures(
    request: StageRequest,
    prepared: Prepared,
    *,
    device: torch.device,
    reference: BaseReference | None = None,
    attack: Adversarial | None = None,
    lay_out_of: Callable[[TokenRows], LayOut],
) -> dict[str, Measure]:
    """The losses that are looked at, by the kind of their points in the curve.

    The held-out rows; a sample of the training rows with as many targets, whose loss the held-out
    one is compared with; a sample of the general text; where it is bounded or punished, how far
    the model is from its base on held-out rows; and these under an attack, where one is trained on.
    """
    held_out = prepared.validation
    sample = sample_of(prepared.train, num_targets=_wanted_targets(prepared))
    rows = {HELD_OUT: held_out, TRAIN_SAMPLE: sample, GENERAL: _general_rows(request, prepared)}
    measures: dict[str, Measure] = {
        kind: CrossEntropy(tokens, device=device, lay_out=lay_out_of(tokens))
        for kind, tokens in rows.items()
    }
    if reference is not None:
        compared = sample_of(held_out, num_targets=_MOST_TARGETS)
        measures[KL] = KlToBase(
            compared, reference=reference, device=device, lay_out=lay_out_of(compared)
        )
    if attack is not None:
        attacked = _attacked_rows(held_out)
        measures[ATTACKED] = UnderAttack(
            attacked, epsilon=attack.epsilon, device=device, lay_out=lay_out_of(attacked)
        )
    return measures


def evaluation_cost(prepared: Prepared, *, batch_size: int, is_attacked: bool) -> float:
    """About how many steps take as long as measuring every loss once.

    By tokens: a step also goes backward, which takes about twice as long as forward.
    """
    held_out = len(prepared.validation.input_ids)
    sample = min(held_out, _MOST_TARGETS)
    measured = held_out + sample + max(sample, _FEWEST_GENERAL_TARGETS)
    if is_attacked:
        measured += _PASSES_OF_ATTACK * _attacked_tokens(prepared.validation)
    trained = batch_size * float(prepared.train.lengths.mean())
    return measured / (3.0 * trained)


def _attacked_rows(held_out: TokenRows) -> TokenRows:
    return held_out.subset(_drawn(held_out.lengths, wanted=_attacked_tokens(held_out)))


def _attacked_tokens(held_out: TokenRows) -> int:
    every = len(held_out.input_ids)
    return min(every, max(_FEWEST_ATTACKED_TOKENS, int(_ATTACKED_SHARE * every)))


def sample_of(rows: TokenRows, *, num_targets: int) -> TokenRows:
    """The rows that `sample_rows` draws."""
    return rows.subset(sample_rows(rows, num_targets=num_targets))


def sample_rows(rows: TokenRows, *, num_targets: int) -> list[int]:
    """Numbers of rows drawn without replacement until they have `num_targets` targets, ascending.

    All rows, if those have fewer; always at least one. The same rows for the same data.
    """
    targets = np.array([int(rows.row(row)[1].sum()) for row in range(len(rows))])
    return _drawn(targets, wanted=num_targets)


def _drawn(sizes: NDArray[np.int64], *, wanted: int) -> list[int]:
    """Rows drawn until their sizes sum up to `wanted`, ascending."""
    order = np.random.default_rng(_SAMPLE_SEED).permutation(len(sizes))
    num_rows = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    return [int(row) for row in np.sort(order[:num_rows])]


def _wanted_targets(prepared: Prepared) -> int:
    return min(prepared.validation.num_targets, _MOST_TARGETS)


def _general_rows(request: StageRequest, prepared: Prepared) -> TokenRows:
    # Never longer than the rows that are trained: measuring needs no memory that training does not.
    longest = int(prepared.train.lengths.max())
    general = load_general_text(
        request,
        load_tokenizer(prepared.model),
        context_length=min(max(longest, _NARROWEST_GENERAL), _WIDEST_GENERAL),
    )
    # As costly as the held-out rows, which are measured as often.
    wanted = max(int(prepared.validation.lengths.sum()), _FEWEST_GENERAL_TARGETS)
    return sample_of(general.rows, num_targets=min(wanted, _MOST_TARGETS))
