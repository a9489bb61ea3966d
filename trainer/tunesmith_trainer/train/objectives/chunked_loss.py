"""A loss over hidden states, head included, a chunk of positions at a time.

All logits of a batch would be its largest tensor by far, and their softmax and gradients as large
again. The gradients of a chunk are made with its loss, and its logits are let go of: nothing is
computed twice, and the backward pass only scales (as in Liger Kernel, Hsu et al. 2024,
arXiv 2410.10989).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from tunesmith_engine.stages.memory import LOGITS_PER_CHUNK
from tunesmith_trainer.hidden_states import HiddenStates

# Of the states of the positions in a slice, shape (chunk, hidden size), and that slice.
OfChunk = Callable[[torch.Tensor, slice], torch.Tensor]


def sum_over_chunks(
    hidden: HiddenStates, loss_of: OfChunk, *, states: torch.Tensor | None = None
) -> torch.Tensor:
    """The sum of `loss_of`, which sums over a chunk: a scalar, fp32, to be differentiated once.

    `states` are those of `hidden` that count, in the order in which `loss_of` is to see them; all
    of them by default.

    NB: gradients reach the states and what the head itself has to train, and nothing else that
    `loss_of` may depend on.
    """
    trained = [parameter for parameter in hidden.head.parameters() if parameter.requires_grad]
    total: torch.Tensor = _SumOverChunks.apply(
        hidden.states if states is None else states, loss_of, *trained
    )
    return total


def map_chunks(hidden: HiddenStates, values_of: OfChunk) -> torch.Tensor:
    """`values_of` every position, shape (positions,), fp64; for passes without gradients."""
    states = hidden.states
    return torch.cat([values_of(states[part], part).double() for part in _parts(states)])


class _SumOverChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, loss_of: OfChunk, *parameters: torch.nn.Parameter
    ) -> torch.Tensor:
        needs_hidden = ctx.needs_input_grad[0]
        totals = [torch.zeros_like(parameter) for parameter in parameters]
        of_hidden, losses = [], []
        for part in _parts(hidden):
            with torch.enable_grad():
                states = hidden[part].detach().requires_grad_(needs_hidden)
                loss = loss_of(states, part)
            losses.append(loss.detach())
            inputs = [*([states] if needs_hidden else []), *parameters]
            gradients = list(torch.autograd.grad(loss, inputs, materialize_grads=True))
            if needs_hidden:
                of_hidden.append(gradients.pop(0))
            for total, gradient in zip(totals, gradients, strict=True):
                total.add_(gradient)
        ctx.save_for_backward(*([torch.cat(of_hidden)] if needs_hidden else []), *totals)
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place: those of a trained head are as large as its matrix.
        scaled = [gradient.mul_(upstream[0]) for gradient in ctx.saved_tensors]
        of_hidden = scaled.pop(0) if ctx.needs_input_grad[0] else None
        return of_hidden, None, *scaled


def _parts(states: torch.Tensor) -> Iterator[slice]:
    kind = "processor" if states.device.type == "cpu" else "accelerator"
    size = LOGITS_PER_CHUNK[kind]
    return (slice(start, start + size) for start in range(0, len(states), size))
