"""Dropout and NEFTune noise on a model's input embeddings, for the length of one forward pass.

`objectives` put it around the passes that are minimised, and around no others. Both draw from
torch's global generator, whose state is in every checkpoint.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F

from tunesmith_api.finetunejob.regularization import Regularization


@contextmanager
def noisy_embeddings(
    model: Any, *, regularization: Regularization, row_lengths: torch.Tensor
) -> Iterator[None]:
    """Change what the embedding of `model` returns, in training mode, until the block is left.

    `row_lengths` (lines, columns) has for each token how many its row has. The noise is uniform
    within alpha / sqrt(length x hidden size) (NEFTune, Jain et al. 2023, arXiv 2310.05914).
    """
    alpha, dropout = regularization.neftune_noise_alpha, regularization.embedding_dropout
    if not alpha and not dropout:
        yield
        return

    def change(module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        output = F.dropout(output, dropout)
        if alpha:
            # NB: by the row's own length, as in the authors' code. By the padded one, as in other
            # trainers, a row's noise would depend on which rows it shares a micro batch with.
            bound = alpha / (row_lengths * output.shape[-1]).to(output.dtype).sqrt()
            output = output + torch.empty_like(output).uniform_(-1.0, 1.0) * bound[..., None]
        return output

    hook = model.get_input_embeddings().register_forward_hook(change)
    try:
        yield
    finally:
        hook.remove()
