"""Losses of inputs that are moved to where the loss is highest, minimised and measured.

An ascent takes several passes. The gradients of each are made with its loss and added up, so that
memory holds the activations of one pass, and the backward pass of the sum only scales.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_api.finetunejob.adversarial import DEFAULT_VAT_WEIGHT, Adversarial
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.train.dataloader import MicroBatch
from tunesmith_trainer.train.objectives.chunked_loss import sum_over_chunks
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.objectives.known_gradients import Passes
from tunesmith_trainer.train.perturbation import Perturbation
from tunesmith_trainer.train.token_counts import TokenCounts

# Of what is measured, whatever a job trains with: an attack of one step finds too little.
_MEASURED_STEPS: Final = 5


class _Attacked:
    """A loss with inputs that are moved; `plain` is that of the rows as they are."""

    def __init__(self, plain: CrossEntropy, *, settings: Adversarial) -> None:
        self._plain = plain
        self._settings = settings

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return self._plain.lengths

    def num_units(self, rows: list[int]) -> int:
        """The targets of `rows`."""
        return self._plain.num_units(rows)

    def token_counts(self, rows: list[int]) -> TokenCounts:
        """The tokens of `rows`, however often they are computed."""
        return self._plain.token_counts(rows)

    def num_positions(self, rows: list[int]) -> int:
        """Places of one forward pass over `rows`."""
        return self._plain.num_positions(rows)

    def _perturbation(self, model: Any) -> Perturbation:
        given = self._settings
        return Perturbation(model, epsilon=given.epsilon, steps=given.steps, is_random=True)


class FreeLb(_Attacked):
    """The mean loss over the steps of an ascent that begins at random (FreeLB).

    Unlike the authors' code, dropout draws anew at each step, as in every forward pass here.
    """

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32."""
        steps = self._settings.steps
        perturbation, passes = self._perturbation(model), Passes(model)
        for _ in range(steps):
            with perturbation.applied():
                loss = self._plain.summed_loss(model, rows) / steps
            (gradient,) = passes.add(loss, perturbation.added)
            perturbation.climb(gradient)
        return passes.sum()


class VirtualAdversarial(_Attacked):
    """The plain loss, and `weight` times KL(plain || moved) of its targets (VAT).

    The ascent is on the divergence, which needs no answers; the plain side is held fixed.
    """

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch = self._plain.collated(rows)
        with torch.no_grad():
            plain = predicting_states(model, batch)
        perturbation, passes = self._perturbation(model), Passes(model)
        for _ in range(self._settings.steps):
            divergence = _divergence(model, batch, plain, perturbation)
            (gradient,) = torch.autograd.grad(divergence, [perturbation.added])
            perturbation.climb(gradient)
        weight = self._settings.weight or DEFAULT_VAT_WEIGHT
        passes.add(weight * _divergence(model, batch, plain, perturbation))
        passes.add(self._plain.summed_loss(model, rows))
        return passes.sum()


class UnderAttack(CrossEntropy):
    """Cross-entropy of inputs that an ascent has moved, from where they are: a measure.

    It draws no numbers, and a row's loss does not depend on those measured with it.
    """

    def __init__(self, *args: Any, epsilon: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._epsilon = epsilon

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of each of `rows`, in nats: shape (rows,), fp64."""
        perturbation = Perturbation(
            model, epsilon=self._epsilon, steps=_MEASURED_STEPS, is_random=False
        )
        with torch.enable_grad(), perturbation.applied():
            for _ in range(_MEASURED_STEPS):
                loss = self.summed_loss(model, rows)
                (gradient,) = torch.autograd.grad(loss, [perturbation.added])
                perturbation.climb(gradient)
            return super().row_losses(model, rows).detach()


def _divergence(
    model: Any, batch: MicroBatch, plain: HiddenStates, perturbation: Perturbation
) -> torch.Tensor:
    """KL(plain || moved), summed over the targets: a scalar, fp32."""
    with perturbation.applied():
        moved = predicting_states(model, batch)

    def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
        with torch.no_grad():
            expected = plain.logits(plain.states[part]).log_softmax(dim=-1)
        reached = moved.logits(states).log_softmax(dim=-1)
        return (expected.exp() * (expected - reached)).sum()

    return sum_over_chunks(moved, loss_of)
