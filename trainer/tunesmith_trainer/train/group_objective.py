"""The objective of `training.fairness`, and the measure that shows what it does.

`run_parts` asks for both; a control run, which has no such objective, has the measure all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared, Split
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.group_rows import NO_GROUP, GroupRows
from tunesmith_trainer.train.objectives.companions import lengths_with
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.group_fairness import (
    GroupDro,
    PairedConsistency,
    WeightedCrossEntropy,
)
from tunesmith_trainer.train.objectives.group_weights import GroupWeights, balancing_weights
from tunesmith_trainer.train.packing import LayOut

LayOutOf = Callable[[NDArray[np.int64]], LayOut]


@dataclass(frozen=True, slots=True)
class GroupObjective:
    """What is minimised; `weights` are those of the groups, where they move."""

    objective: CrossEntropy
    weights: GroupWeights | None = None


def group_objective(
    remedy: FairnessRemedy,
    *,
    request: StageRequest,
    prepared: Prepared,
    rows: TokenRows,
    config: TrainConfig,
    device: torch.device,
    lay_out_of: LayOutOf,
) -> GroupObjective:
    """Over `rows`: those of the job, and replay rows behind them, which are of no group.

    Raises:
        BadInputError: a term stands twice, or the rows do not name the groups.
    """
    named = group_rows(remedy, request=request, prepared=prepared, split="train")
    common: dict[str, Any] = {
        "device": device,
        "regularization": config.training.regularization,
    }
    if remedy.method == "pairedConsistency":
        distance = remedy.distance or "logLikelihood"
        numbers, twins = named.twins(with_equal_answers=distance == "symmetricKl")
        lengths = lengths_with(rows, numbers=numbers, companions=twins)
        return GroupObjective(
            PairedConsistency(
                rows,
                numbers=numbers,
                twins=twins,
                weight=remedy.weight,
                distance=distance,
                lay_out=lay_out_of(lengths),
                **common,
            )
        )
    named.require_all_groups()
    groups = np.concatenate([named.groups, np.full(len(rows) - len(named.groups), NO_GROUP)])
    targets = np.array([int(rows.row(row)[1].sum()) for row in range(len(rows))])
    common["lay_out"] = lay_out_of(rows.lengths)
    if remedy.method == "reweighting":
        weights = balancing_weights(groups, targets, no_group=NO_GROUP, strength=remedy.weight)
        return GroupObjective(WeightedCrossEntropy(rows, weights=weights, **common))
    # Rows without a group are a group of their own, behind the others.
    apart = np.where(groups == NO_GROUP, len(named.terms.names), groups)
    moved = GroupWeights(apart, targets, step_size=remedy.weight)
    return GroupObjective(GroupDro(rows, weights=moved, **common), moved)


def group_rows(
    remedy: FairnessRemedy, *, request: StageRequest, prepared: Prepared, split: Split
) -> GroupRows:
    """The rows of a split with the groups that they name."""
    return GroupRows.of(
        prepared.records(split),
        remedy,
        tokenizer=load_tokenizer(prepared.model),
        longest=request.spec.training.sequence_length,
    )
