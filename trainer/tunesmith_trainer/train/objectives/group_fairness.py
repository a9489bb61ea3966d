"""Losses that treat groups of people more alike, and the gap between groups as a measure."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.train.dataloader import MicroBatch
from tunesmith_trainer.train.objectives.chunked_loss import map_chunks, sum_over_chunks
from tunesmith_trainer.train.objectives.companions import (
    WithCompanions,
    of_targets,
    spans_of_rows,
    targets_of_rows,
)
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.group_weights import GroupWeights
from tunesmith_trainer.train.packing import LayOut, one_per_line


class WeightedCrossEntropy(CrossEntropy):
    """Cross-entropy with the loss of each row times a weight of its own."""

    def __init__(
        self,
        tokens: TokenRows,
        *,
        weights: NDArray[np.float64],
        device: torch.device,
        lay_out: LayOut,
        regularization: Regularization,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out, regularization=regularization)
        self._weights = weights

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Weighted sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch = self.collated(rows)
        weights = of_targets(batch, self._weights[rows])
        hidden = self.training_states(model, batch)

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            return (self.smoothed_losses(hidden, states, batch, part) * weights[part]).sum()

        return sum_over_chunks(hidden, loss_of)


class GroupDro(CrossEntropy):
    """Cross-entropy with the loss of each row times what its group counts at this step.

    NB: `weights` are the run's own: the loop moves them after every step, and keeps them.
    """

    def __init__(
        self,
        tokens: TokenRows,
        *,
        weights: GroupWeights,
        device: torch.device,
        lay_out: LayOut,
        regularization: Regularization,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out, regularization=regularization)
        self._weights = weights

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Weighted sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch = self.collated(rows)
        weights = of_targets(batch, self._weights.of_rows(rows))
        hidden = self.training_states(model, batch)
        seen: list[torch.Tensor] = []

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            losses = self.smoothed_losses(hidden, states, batch, part)
            seen.append(losses.detach())
            return (losses * weights[part]).sum()

        total = sum_over_chunks(hidden, loss_of)
        of_rows = batch.row_sums(torch.cat(seen).double()).cpu().numpy()
        self._weights.note_pass(rows, of_rows, targets_of_rows(batch))
        return total


class PairedConsistency(WithCompanions):
    """Cross-entropy, and `weight` times how far a row's answer is from that with other terms.

    `twins` are rows with another group's terms, `numbers` those of the rows that they belong to.
    Nothing is learnt of a twin's answer but that it should be as likely.
    """

    def __init__(
        self,
        tokens: TokenRows,
        *,
        numbers: Sequence[int],
        twins: TokenRows,
        weight: float,
        distance: Literal["symmetricKl", "logLikelihood"],
        device: torch.device,
        lay_out: LayOut,
        regularization: Regularization,
    ) -> None:
        super().__init__(
            tokens,
            numbers=numbers,
            companions=twins,
            device=device,
            lay_out=lay_out,
            regularization=regularization,
        )
        self._weight = weight
        self._distance = distance

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch, pairs = self.collated(self.sides(rows)), self.pairs(rows)
        hidden = self.training_states(model, batch)
        if self._distance == "symmetricKl":
            return self._with_divergences(hidden, batch, num_rows=len(rows), pairs=pairs)
        return self._with_differences(hidden, batch, num_rows=len(rows), pairs=pairs)

    def _with_differences(
        self,
        hidden: HiddenStates,
        batch: MicroBatch,
        *,
        num_rows: int,
        pairs: Sequence[tuple[int, int]],
    ) -> torch.Tensor:
        """Of each pair the squared difference of mean log-likelihoods, times the row's targets."""

        def losses_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            return F.cross_entropy(hidden.logits(states), batch.targets[part], reduction="none")

        with torch.no_grad():
            sums = batch.row_sums(map_chunks(hidden, losses_of)).cpu().numpy()
        targets = targets_of_rows(batch)
        is_own = np.array([float(place < num_rows) for place in range(len(targets))])
        # The gradient of n·d², d = (own - twin) / n, is 2·d times that of own less that of twin:
        # known only once the whole of both is, and so a factor of each target.
        factors, penalty = np.zeros(len(targets)), 0.0
        for own, twin in pairs:
            difference = (sums[own] - sums[twin]) / targets[own]
            factors[own] += 2 * self._weight * difference
            factors[twin] -= 2 * self._weight * difference
            penalty += self._weight * targets[own] * difference**2
        learnt, moved = of_targets(batch, is_own), of_targets(batch, factors)

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            plain = self.smoothed_losses(hidden, states, batch, part) * learnt[part]
            return (plain + losses_of(states, part) * moved[part]).sum()

        # With those factors the value has the penalty twice.
        return sum_over_chunks(hidden, loss_of) - penalty

    def _with_divergences(
        self,
        hidden: HiddenStates,
        batch: MicroBatch,
        *,
        num_rows: int,
        pairs: Sequence[tuple[int, int]],
    ) -> torch.Tensor:
        """Of each target of a pair, half of KL(own || twin) and of KL(twin || own)."""
        spans = spans_of_rows(batch)
        own = [place for row, _ in pairs for place in spans[row]]
        twin = [place for _, other in pairs for place in spans[other]]
        paired = {row for row, _ in pairs}
        alone = [place for row in range(num_rows) if row not in paired for place in spans[row]]
        # Side by side: chunks have an even number of places, so none parts a pair.
        places = torch.tensor([own, twin], device=batch.targets.device).T.flatten()
        targets = batch.targets[places]

        def loss_of_pairs(states: torch.Tensor, part: slice) -> torch.Tensor:
            logits = hidden.logits(states)
            learnt = self.smoothed_loss(logits[0::2], targets[part][0::2])
            one, other = logits.log_softmax(dim=-1).view(-1, 2, logits.shape[-1]).unbind(1)
            divergence = ((one.exp() - other.exp()) * (one - other)).sum() / 2
            return learnt + self._weight * divergence

        rest = torch.tensor(alone, dtype=torch.int64, device=batch.targets.device)

        def loss_of_rest(states: torch.Tensor, part: slice) -> torch.Tensor:
            return self.smoothed_loss(hidden.computed_logits(states), batch.targets[rest][part])

        total = torch.zeros((), device=batch.targets.device)
        if pairs:
            total = total + sum_over_chunks(hidden, loss_of_pairs, states=hidden.states[places])
        if alone:
            total = total + sum_over_chunks(hidden, loss_of_rest, states=hidden.states[rest])
        return total


class PairedGap:
    """How far apart the loss is with one group's terms and with another's: a measure.

    `first` and `other` have a row for each pair, in the same order. The gap is taken without its
    sign, and is in nats for each target of the first.
    """

    def __init__(
        self,
        first: TokenRows,
        other: TokenRows,
        *,
        device: torch.device,
        lay_out: LayOut = one_per_line,
    ) -> None:
        self._plain = CrossEntropy(first.followed_by(other), device=device, lay_out=lay_out)
        self._num_pairs = len(first)
        self.lengths: NDArray[np.int64] = first.lengths + other.lengths

    def num_units(self, rows: list[int]) -> int:
        """The targets of the first rows."""
        return self._plain.num_units(rows)

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """The gap of each pair, summed over its targets: shape (rows,), fp64."""
        sides = [*rows, *(self._num_pairs + row for row in rows)]
        first, other = self._plain.row_losses(model, sides).view(2, -1)
        return (first - other).abs()
