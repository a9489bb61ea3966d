"""The loop and what it is given: objective, sampler and measures, from spec and data.

`worker` asks for them, the same on every worker. A measure costs a forward pass over its rows at
each evaluation, so those beside the held-out rows are samples.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared, load_replay
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.general_text import load_general_text
from tunesmith_trainer.models import load_model, load_tokenizer
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import ReplaySampler, RowSampler, Sampler
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, KL, TRAIN_SAMPLE
from tunesmith_trainer.train.loop import Loop, StepCallback
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.kl_to_base import (
    BaseReference,
    CrossEntropyNearBase,
    KlToBase,
)
from tunesmith_trainer.train.objectives.objective import Measure, Objective

# Targets of a sample: an interval over some hundred rows, in seconds on a processor.
_MOST_TARGETS = 4096
# Of the general text at least so many, however few held-out rows there are.
_FEWEST_GENERAL_TARGETS = 1024
# Tokens of a row of the general text; prepare's own rows may be far shorter than its passages.
_WIDEST_GENERAL = 256
_NARROWEST_GENERAL = 16
# Not the job's seed: two jobs on the same rows measure the same sample.
_SAMPLE_SEED = 0


def build_loop(
    model: Any,
    *,
    request: StageRequest,
    prepared: Prepared,
    config: TrainConfig,
    group: WorkerGroup,
    checkpoints: Path,
    on_step: StepCallback | None,
    last_step: int | None = None,
) -> Loop:
    """The loop over `model`, with its checkpoints in that folder; `last_step` as in `Loop`.

    Raises:
        StageError: the general text of the manifest cannot be read or holds nothing.
    """
    reference = _base_reference(config, prepared, device=group.device)
    replay = load_replay(request) if config.replay_ratio else None
    return Loop(
        model,
        config=config,
        objective=_objective(config, prepared, replay, reference=reference, device=group.device),
        sampler=_sampler(config, prepared, replay),
        measures=build_measures(request, prepared, reference=reference, device=group.device),
        group=group,
        checkpoints=Checkpoints(
            checkpoints, config_digest=config.digest(), keep=config.checkpoint.keep
        ),
        on_step=on_step,
        last_step=last_step,
    )


def _base_reference(
    config: TrainConfig, prepared: Prepared, *, device: torch.device
) -> BaseReference | None:
    if not config.training.compares_with_base:
        return None
    if config.training.method == "lora":
        return BaseReference()
    frozen = load_model(prepared.model, dtype=torch.float32).to(device)
    return BaseReference(frozen)


def _objective(
    config: TrainConfig,
    prepared: Prepared,
    replay: TokenRows | None,
    *,
    reference: BaseReference | None,
    device: torch.device,
) -> Objective:
    training = config.training
    rows = prepared.train if replay is None else prepared.train.followed_by(replay)
    penalty = training.kl_to_base
    if penalty is None or reference is None:
        return CrossEntropy(rows, device=device, regularization=training.regularization)
    return CrossEntropyNearBase(
        rows,
        weight=penalty.weight,
        reference=reference,
        device=device,
        regularization=training.regularization,
    )


def _sampler(config: TrainConfig, prepared: Prepared, replay: TokenRows | None) -> Sampler:
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


def build_measures(
    request: StageRequest,
    prepared: Prepared,
    *,
    device: torch.device,
    reference: BaseReference | None = None,
) -> dict[str, Measure]:
    """The losses that are looked at, by the kind of their points in the curve.

    The held-out rows; a sample of the training rows with as many targets, whose loss the held-out
    one is compared with; a sample of the general text; and, where it is bounded or punished, how
    far the model is from its base on held-out rows.
    """
    held_out = prepared.validation
    sample = sample_of(prepared.train, num_targets=min(held_out.num_targets, _MOST_TARGETS))
    rows = {HELD_OUT: held_out, TRAIN_SAMPLE: sample, GENERAL: _general_rows(request, prepared)}
    measures: dict[str, Measure] = {
        kind: CrossEntropy(tokens, device=device) for kind, tokens in rows.items()
    }
    if reference is not None:
        compared = sample_of(held_out, num_targets=_MOST_TARGETS)
        measures[KL] = KlToBase(compared, reference=reference, device=device)
    return measures


def sample_of(rows: TokenRows, *, num_targets: int) -> TokenRows:
    """Rows drawn without replacement until they have `num_targets` targets, in their old order.

    All rows, if those have fewer; always at least one. The same rows for the same data.
    """
    order = np.random.default_rng(_SAMPLE_SEED).permutation(len(rows))
    targets = np.array([int(rows.row(int(row))[1].sum()) for row in order])
    num_rows = int(np.searchsorted(np.cumsum(targets), num_targets)) + 1
    drawn = (rows.row(int(row)) for row in np.sort(order[:num_rows]))
    return TokenRows.of((ids.tolist(), trained.tolist()) for ids, trained in drawn)


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
