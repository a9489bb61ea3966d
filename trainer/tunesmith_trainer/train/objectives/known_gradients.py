"""Losses whose gradients are made at once: memory holds the graph of one pass, and of no other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from tunesmith_trainer.train.parameter_groups import trainable_parameters


class Passes:
    """Losses and their gradients for what `model` trains, added up pass by pass."""

    def __init__(self, model: Any) -> None:
        self._parameters = list(trainable_parameters(model).values())
        self._totals = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._losses: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """Take `loss` in, and return its gradients for `inputs`."""
        gradients = torch.autograd.grad(loss, [*self._parameters, *inputs], materialize_grads=True)
        for total, gradient in zip(self._totals, gradients, strict=False):
            total.add_(gradient)
        self._losses.append(loss.detach())
        return list(gradients[len(self._totals) :])

    def sum(self) -> torch.Tensor:
        """The sum of the losses, to be differentiated once."""
        total: torch.Tensor = _Computed.apply(
            torch.stack(self._losses).sum(), self._totals, *self._parameters
        )
        return total


class _Computed(torch.autograd.Function):
    """A loss whose gradients are known."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: torch.Tensor,
        gradients: Sequence[torch.Tensor],
        *_parameters: torch.nn.Parameter,
    ) -> torch.Tensor:
        ctx.save_for_backward(*gradients)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(gradient.mul_(upstream[0]) for gradient in ctx.saved_tensors)
