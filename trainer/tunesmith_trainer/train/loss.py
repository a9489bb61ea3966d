"""Cross-entropy of the target tokens, without logits for any other position.

With a vocabulary of 49 thousand and a mask over the prompts, the head would otherwise be most of
the work and of the memory. `loop` calls this for training and for the held-out loss.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F

from tunesmith_trainer.train.dataloader import MicroBatch


def summed_loss(model: Any, batch: MicroBatch) -> torch.Tensor:
    """Sum over the targets of their negative log-probability, in nats: a scalar, fp32.

    The hidden states of the predicting positions are selected in front of the output head, so that
    whatever the model does with its logits afterwards (scaling, soft caps) still happens.
    """
    with _only(batch.positions, head=model.get_output_embeddings()):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


@contextmanager
def _only(positions: torch.Tensor, *, head: torch.nn.Module) -> Iterator[None]:
    def select(_head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, positions),)

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
