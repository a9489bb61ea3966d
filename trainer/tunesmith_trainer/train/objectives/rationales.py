"""Distilling step-by-step: the loss of answers, and that of the rationales beside them.

Hsieh et al. 2023 (arXiv 2305.02301). Both are means over their own targets, whatever the lengths of
answers and rationales are: those of a whole epoch, so that no batch has to be looked at first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.objectives.chunked_loss import sum_over_chunks
from tunesmith_trainer.train.objectives.companions import WithCompanions, of_targets
from tunesmith_trainer.train.packing import LayOut


class AnswersAndRationales(WithCompanions):
    """`label_weight` times the loss of answers, and the rest times that of rationales.

    `rationales` are rows that are asked why, `numbers` the rows that they belong to.
    """

    def __init__(
        self,
        tokens: TokenRows,
        *,
        numbers: Sequence[int],
        rationales: TokenRows,
        label_weight: float,
        device: torch.device,
        lay_out: LayOut,
        regularization: Regularization,
    ) -> None:
        super().__init__(
            tokens,
            numbers=numbers,
            companions=rationales,
            device=device,
            lay_out=lay_out,
            regularization=regularization,
        )
        self._of_answers = label_weight
        # NB: what the loop divides by are the targets of answers.
        self._of_rationales = (1 - label_weight) * tokens.num_targets / rationales.num_targets

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Weighted sum over the targets of `rows`, in nats: a scalar, fp32."""
        sides = self.sides(rows)
        batch = self.collated(sides)
        hidden = self.training_states(model, batch)
        of_rows = np.full(len(sides), self._of_answers)
        of_rows[len(rows) :] = self._of_rationales
        weights = of_targets(batch, of_rows)

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            return (self.smoothed_losses(hidden, states, batch, part) * weights[part]).sum()

        return sum_over_chunks(hidden, loss_of)
