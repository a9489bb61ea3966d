"""The objective of `training.explanation`, and the loss of held-out rationales as a measure.

`run_parts` asks for both; a control run, which has no such objective, has the measure all the same.
"""

import torch

from tunesmith_api.finetunejob.explanation_objective import ExplanationObjective
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.held_out_roles import row_of
from tunesmith_trainer.data.prepared import Prepared, Split
from tunesmith_trainer.data.rationales import rationale_row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.fairness.held_out_rows import HeldOut
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.group_objective import LayOutOf
from tunesmith_trainer.train.objectives.companions import lengths_with
from tunesmith_trainer.train.objectives.rationales import AnswersAndRationales


def rationale_rows(
    settings: ExplanationObjective, *, request: StageRequest, prepared: Prepared, split: Split
) -> tuple[list[int], TokenRows]:
    """Numbers of the rows of a split that have a rationale which fits, and those as rows."""
    records = prepared.records(split)
    fit = HeldOut(
        records,
        load_tokenizer(prepared.model),
        longest=request.spec.training.sequence_length,
        max_new_tokens=1,
    ).fitting()
    found = [
        (number, fitted.tokens)
        for number, record in enumerate(records)
        if (asked := rationale_row(row_of(record), settings.asked)) and (fitted := fit(asked))
    ]
    tokens = TokenRows.of((each.ids, each.trained) for _, each in found)
    return [number for number, _ in found], tokens


def rationale_objective(
    settings: ExplanationObjective,
    *,
    request: StageRequest,
    prepared: Prepared,
    rows: TokenRows,
    config: TrainConfig,
    device: torch.device,
    lay_out_of: LayOutOf,
) -> AnswersAndRationales:
    """Over `rows`: those of the job, and replay rows behind them, which have no rationale.

    Raises:
        BadInputError: no row has one that fits.
    """
    numbers, rationales = rationale_rows(
        settings, request=request, prepared=prepared, split="train"
    )
    if not numbers:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.rationale: given {request.spec.dataset.rationale}; none of "
            f"{len(prepared.train)} training rows has a rationale that, behind its prompt, fits "
            "into training.sequenceLength; name the column that has them, raise that, or leave "
            "training.explanation out",
        )
    return AnswersAndRationales(
        rows,
        numbers=numbers,
        rationales=rationales,
        label_weight=settings.part_of_answers,
        device=device,
        lay_out=lay_out_of(lengths_with(rows, numbers=numbers, companions=rationales)),
        regularization=config.training.regularization,
    )
