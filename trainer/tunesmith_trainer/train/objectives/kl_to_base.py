"""KL(base || tuned) over target tokens: a penalty beside cross-entropy, and a measure.

The base is the adapted model with its adapters off, which costs a forward pass and no memory; with
method full it is a second, frozen copy.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.train.dataloader import MicroBatch
from tunesmith_trainer.train.objectives.chunked_loss import map_chunks, sum_over_chunks
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.packing import LayOut, one_per_line


class BaseReference:
    """The base model's own answers.

    `frozen` is its copy; None where the trained model has adapters to switch off.
    """

    def __init__(self, frozen: Any | None = None) -> None:
        self._frozen = frozen

    def states(self, model: Any, batch: MicroBatch) -> HiddenStates:
        """As `predicting_states`, without gradients and without dropout."""
        with self._as_base(model) as reference:
            return predicting_states(reference, batch)

    def logprobs(self, model: Any, hidden: HiddenStates, part: slice) -> torch.Tensor:
        """Log-probabilities of a part of what `states` gave, shape (part, vocabulary), fp32."""
        with self._as_base(model):
            return hidden.logits(hidden.states[part]).log_softmax(dim=-1)

    @contextmanager
    def _as_base(self, model: Any) -> Iterator[Any]:
        reference = model if self._frozen is None else self._frozen
        was_training = model.training
        off: AbstractContextManager[Any] = (
            model.disable_adapter() if self._frozen is None else nullcontext()
        )
        # NB: dropout would draw from the generator, and no two forward passes of the base agree.
        model.eval()
        try:
            with torch.no_grad(), off:
                yield reference
        finally:
            model.train(was_training)


class KlToBase(CrossEntropy):
    """The divergence alone, as a measure: mean nats per target."""

    def __init__(
        self,
        tokens: TokenRows,
        *,
        reference: BaseReference,
        device: torch.device,
        lay_out: LayOut = one_per_line,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out)
        self._reference = reference

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """KL(base || tuned) summed over the targets of each of `rows`: shape (rows,), fp64."""
        batch = self.collated(rows)
        base, tuned = self._reference.states(model, batch), predicting_states(model, batch)

        def divergences_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            expected = self._reference.logprobs(model, base, part)
            return _divergences(tuned.logits(states), expected)

        return batch.row_sums(map_chunks(tuned, divergences_of))


class CrossEntropyNearBase(CrossEntropy):
    """Cross-entropy with `weight` times the divergence of its targets added."""

    def __init__(
        self,
        tokens: TokenRows,
        *,
        weight: float,
        reference: BaseReference,
        device: torch.device,
        regularization: Regularization,
        lay_out: LayOut = one_per_line,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out, regularization=regularization)
        self._weight = weight
        self._reference = reference

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch = self.collated(rows)
        base, tuned = self._reference.states(model, batch), self.training_states(model, batch)

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            expected = self._reference.logprobs(model, base, part)
            logits = tuned.logits(states)
            penalty = _divergences(logits, expected).sum()
            return self.smoothed_loss(logits, batch.targets[part]) + self._weight * penalty

        return sum_over_chunks(tuned, loss_of)


def _divergences(tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """KL(base || tuned) of each position, shape (positions,); logits, and log-probabilities."""
    return (base.exp() * (base - tuned.log_softmax(dim=-1))).sum(dim=-1)
