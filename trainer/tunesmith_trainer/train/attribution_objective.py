"""The objective of `training.explanation` with method attribution, and what it is judged by.

`run_parts` asks for the former. The latter is a measure by occlusion on held-out rows, which a
control run has as well.
"""

from typing import Any, Final

import numpy as np
import torch

from tunesmith_api.finetunejob.explanation_objective import ExplanationObjective
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.prepared import Prepared, Split
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.explain.highlight_share import Floats, Occlusions
from tunesmith_trainer.explain.highlighted_rows import (
    HighlightedRow,
    HighlightedRows,
    highlighted_rows,
)
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.group_objective import LayOutOf
from tunesmith_trainer.train.objectives.attribution import HeldToHighlights, Marked
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import one_per_line

# Cut versions of rows that a measure computes at a time.
_CUT_ROWS: Final = 16


def rows_of_split(prepared: Prepared, split: Split) -> HighlightedRows:
    """The rows of a split whose highlights are of use."""
    tokens = prepared.train if split == "train" else prepared.validation
    return highlighted_rows(prepared.records(split), tokens, load_tokenizer(prepared.model))


def marked_rows(rows: list[HighlightedRow]) -> Marked:
    """What the objective reads of them."""
    return Marked(
        numbers=[row.number for row in rows],
        tokens=TokenRows.of(row.answered for row in rows),
        inside=[[at for word in row.inside for at in word.tokens] for row in rows],
        outside=[[at for word in row.outside for at in word.tokens] for row in rows],
    )


def attribution_objective(
    settings: ExplanationObjective,
    *,
    request: StageRequest,
    prepared: Prepared,
    rows: TokenRows,
    config: TrainConfig,
    device: torch.device,
    lay_out_of: LayOutOf,
) -> HeldToHighlights:
    """Over `rows`: those of the job, and replay rows behind them, which have no highlights.

    Raises:
        BadInputError: no row has highlights of use.
    """
    found = rows_of_split(prepared, "train")
    if not found.rows:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.highlights: given {request.spec.dataset.highlights}; none of "
            f"{len(prepared.train)} training rows has highlights on a part of its prompt; "
            f"{found.num_given} were given some; name the column that has them, raise "
            "training.sequenceLength, or leave training.explanation out",
        )
    return HeldToHighlights(
        rows,
        marked=marked_rows(found.rows),
        weight=settings.penalty,
        device=device,
        lay_out=lay_out_of(rows.lengths),
        regularization=config.training.regularization,
    )


class OffHighlights:
    """Of held-out rows, the share of what moves the answer that is not on highlights, by occlusion.

    A measure: each row counts alike.
    """

    def __init__(self, rows: list[HighlightedRow], *, device: torch.device) -> None:
        self._occlusions = Occlusions.of(rows)
        # NB: never end to end. A likelihood must not depend on what shares a line, in bf16 either.
        self._losses = CrossEntropy(self._occlusions.tokens, device=device, lay_out=one_per_line)

    @property
    def lengths(self) -> Any:
        """Tokens of each row and of all its cut versions, shape (rows,)."""
        bounds = self._occlusions.bounds
        return np.add.reduceat(self._losses.lengths, bounds[:-1])

    def num_units(self, rows: list[int]) -> int:
        """The rows themselves."""
        return len(rows)

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """The share of each of `rows`, from 0 to 1: shape (rows,), fp64."""
        return torch.tensor([self._share(model, row) for row in rows], dtype=torch.float64)

    def _share(self, model: Any, row: int) -> float:
        start, end = self._occlusions.bounds[row : row + 2].tolist()
        parts = [
            self._losses.row_losses(model, list(range(at, min(at + _CUT_ROWS, end))))
            for at in range(start, end, _CUT_ROWS)
        ]
        losses: Floats = torch.cat(parts).double().cpu().numpy()
        return 1.0 - self._occlusions.share(row, losses)
