"""Direct preference optimization: chosen answers become likelier than rejected ones.

Rafailov et al. 2023 (arXiv 2305.18290), with the loss that TRL calls `sigmoid`. An answer's reward
is beta times what its log-probability has gained on the reference, the model before the first step;
the margin of a pair is the chosen answer's reward less the rejected one's.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tunesmith_api.finetunejob.preference import Dpo
from tunesmith_trainer.train.history import ACCURACY, HELD_OUT, MARGIN
from tunesmith_trainer.train.objectives.objective import Measure
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.token_counts import TokenCounts


class DirectPreference:
    """Mean loss of a pair.

    `reference` has the log-probabilities of the reference, shape (2, pairs); those of pairs that
    are never drawn may be anything. Labels are smoothed as in cDPO (Mitchell 2023, "A note on DPO
    with noisy preferences"). `sft_weight` adds the chosen answer's own loss, the mean of each
    answer over its targets, as RPO does (Pang et al. 2024, arXiv 2404.19733); TRL takes the mean
    over all targets of a micro batch, which would depend on how the batch is cut.
    """

    def __init__(self, pairs: Pairs, reference: torch.Tensor, *, settings: Dpo) -> None:
        self._pairs = pairs
        self._reference = reference
        self._settings = settings

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of both sides of each pair, shape (pairs,)."""
        return self._pairs.lengths

    def num_units(self, rows: list[int]) -> int:
        """The pairs."""
        return len(rows)

    def summed_loss(self, model: object, rows: list[int]) -> torch.Tensor:
        """Sum over the pairs, in nats: a scalar, fp32."""
        settings = self._settings
        policy = self._pairs.log_probabilities(model, rows)
        margins = self._margins(policy, rows)
        right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
        loss = -(1 - settings.label_smoothing) * right - settings.label_smoothing * wrong
        if settings.sft_weight:
            targets = torch.as_tensor(self._pairs.num_targets[rows], device=policy.device)
            loss = loss - settings.sft_weight * policy[0] / targets
        return loss.sum()

    def token_counts(self, rows: list[int]) -> TokenCounts:
        """The tokens of both answers."""
        return self._pairs.token_counts(rows)

    def num_positions(self, rows: list[int]) -> int:
        """Places of one forward pass over both answers."""
        return self._pairs.num_positions(rows)

    def margins(self, model: object, rows: list[int]) -> torch.Tensor:
        """The margin of each pair, shape (rows,)."""
        return self._margins(self._pairs.log_probabilities(model, rows), rows)

    def subset(self, rows: list[int]) -> "DirectPreference":
        """The same of these pairs alone."""
        return DirectPreference(
            self._pairs.subset(rows), self._reference[:, rows], settings=self._settings
        )

    def _margins(self, policy: torch.Tensor, rows: list[int]) -> torch.Tensor:
        gained = policy - self._reference[:, rows]
        return self._settings.beta * (gained[0] - gained[1])


def preference_measures(objective: DirectPreference) -> Mapping[str, Measure]:
    """Loss, margin and accuracy of a set, for one forward pass over it.

    The loss is the plain one, without smoothing and without the chosen answer's own: that of the
    reference is ln 2 in every job. Accuracy is the part of the pairs with a positive margin; those
    without any, which are all pairs of the reference, count as half right.
    """
    # NB: the order is that in which the loop measures. The first one computes the margins of all
    # pairs, the other two read them.
    loss = PreferenceLoss(objective)
    return {
        HELD_OUT: loss,
        MARGIN: _OfMargins(loss),
        ACCURACY: _Accuracy(loss),
    }


class _OfMargins:
    """The margin itself, of the pairs whose loss was measured before."""

    def __init__(self, measured: "PreferenceLoss") -> None:
        self._measured = measured

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self._measured.lengths

    def num_units(self, rows: list[int]) -> int:
        return len(rows)

    def row_losses(self, _model: object, rows: list[int]) -> torch.Tensor:
        return self._measured.margins[rows]


class _Accuracy(_OfMargins):
    def row_losses(self, _model: object, rows: list[int]) -> torch.Tensor:
        return self._measured.margins[rows].sign() / 2 + 0.5


class PreferenceLoss:
    """The plain loss as a measure; it keeps the margins that it was computed from."""

    def __init__(self, objective: DirectPreference) -> None:
        self._objective = objective
        self.margins = torch.full((len(objective.lengths),), torch.nan)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self._objective.lengths

    def num_units(self, rows: list[int]) -> int:
        return len(rows)

    def row_losses(self, model: object, rows: list[int]) -> torch.Tensor:
        """The loss of each of `rows`, shape (rows,), in nats."""
        margins = self._objective.margins(model, rows)
        self.margins[rows] = margins.detach().cpu()
        return -F.logsigmoid(margins)
