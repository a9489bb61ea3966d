"""KL(base || tuned) over target tokens: a penalty beside cross-entropy, and a measure.

The base is the adapted model with its adapters off, which costs a forward pass and no memory; with
method full it is a second, frozen copy.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.dataloader import MicroBatch
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits

# Targets whose softmaxes are held at once: 100 MB of each for a vocabulary of 50 thousand.
_CHUNK: Final = 512


class BaseReference:
    """The base model's own logits.

    `frozen` is its copy; None where the trained model has adapters to switch off.
    """

    def __init__(self, frozen: Any | None = None) -> None:
        self._frozen = frozen

    def logits(self, model: Any, batch: MicroBatch) -> torch.Tensor:
        """As `target_logits`, in fp32, without gradients and without dropout."""
        reference = model if self._frozen is None else self._frozen
        was_training = model.training
        off: AbstractContextManager[Any] = (
            model.disable_adapter() if self._frozen is None else nullcontext()
        )
        # NB: dropout would draw from the generator, and no two forward passes of the base agree.
        model.eval()
        try:
            with torch.no_grad(), off:
                return target_logits(reference, batch).float()
        finally:
            model.train(was_training)


class KlToBase(CrossEntropy):
    """The divergence alone, as a measure: mean nats per target."""

    def __init__(
        self, tokens: TokenRows, *, reference: BaseReference, device: torch.device
    ) -> None:
        super().__init__(tokens, device=device)
        self._reference = reference

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """KL(base || tuned) summed over the targets of each of `rows`: shape (rows,), fp64."""
        batch = self.collated(rows)
        base = self._reference.logits(model, batch)
        divergences = _divergences(target_logits(model, batch).float(), base)
        return torch.stack([of_row.sum() for of_row in divergences.split(batch.num_targets)])


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
    ) -> None:
        super().__init__(tokens, device=device, regularization=regularization)
        self._weight = weight
        self._reference = reference

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch = self.collated(rows)
        base = self._reference.logits(model, batch)
        logits = self.training_logits(model, batch)
        penalty: torch.Tensor = _SummedKl.apply(logits, base)
        return self.smoothed_loss(logits, batch) + self._weight * penalty


class _SummedKl(torch.autograd.Function):
    """KL summed over positions. Its gradient is the difference of two softmaxes, made in chunks.

    Left to autograd, five tensors of the logits' size would be kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(tuned, base)
        return _divergences(tuned, base).sum().float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        tuned, base = ctx.saved_tensors
        parts = [
            gradients[0] * (logits.softmax(dim=-1) - reference.softmax(dim=-1))
            for logits, reference in zip(tuned.split(_CHUNK), base.split(_CHUNK), strict=True)
        ]
        return torch.cat(parts), None


def _divergences(tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """KL(base || tuned) of each position, shape (targets,), fp64."""
    parts = []
    for logits, reference in zip(tuned.split(_CHUNK), base.split(_CHUNK), strict=True):
        expected = reference.log_softmax(dim=-1)
        difference = expected - logits.log_softmax(dim=-1)
        parts.append((expected.exp() * difference).sum(dim=-1).double())
    return torch.cat(parts)
