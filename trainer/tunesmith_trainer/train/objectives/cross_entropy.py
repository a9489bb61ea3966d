"""Negative log-likelihood of the targets: what supervised training minimises, and every measure.

Logits are computed for the predicting positions alone, a chunk of these at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.train.dataloader import MicroBatch, collate, num_columns
from tunesmith_trainer.train.embedding_noise import noisy_embeddings
from tunesmith_trainer.train.objectives.chunked_loss import map_chunks, sum_over_chunks
from tunesmith_trainer.train.packing import LayOut, one_per_line
from tunesmith_trainer.train.token_counts import TokenCounts, count_tokens, input_lengths

# Any token id will do, and every vocabulary has this one: padding is never trained on.
_PAD_ID: Final = 0
_PLAIN: Final = Regularization()


class CrossEntropy:
    """Mean negative log-probability of a target, over the rows of `tokens`.

    `regularization` is for what is minimised; a measure has none of it. `lay_out` says which rows
    of a forward pass lie end to end in one line. `is_compiled` lets the compiler fuse what is
    computed of logits, which are read and written a dozen times otherwise.
    """

    def __init__(
        self,
        tokens: TokenRows,
        *,
        device: torch.device,
        lay_out: LayOut = one_per_line,
        regularization: Regularization = _PLAIN,
        is_compiled: bool = False,
    ) -> None:
        self._tokens = tokens
        self._device = device
        self._lay_out = lay_out
        self._regularization = regularization
        self._summed = torch.compile(_summed_nll) if is_compiled else _summed_nll

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return self._tokens.lengths

    def num_units(self, rows: list[int]) -> int:
        """The targets of `rows`."""
        return sum(int(self._tokens.row(row)[1].sum()) for row in rows)

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32.

        With label smoothing, a part of each target's weight is the whole vocabulary's.
        """
        batch = self.collated(rows)
        hidden = self.training_states(model, batch)

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            return self.smoothed_loss(hidden.computed_logits(states), batch.targets[part])

        return sum_over_chunks(hidden, loss_of)

    def token_counts(self, rows: list[int]) -> TokenCounts:
        """The tokens of `rows`."""
        return count_tokens(self._tokens, rows)

    def num_positions(self, rows: list[int]) -> int:
        """Places of one forward pass over `rows`."""
        lengths = input_lengths(self._tokens, rows)
        bins = self._lay_out(lengths)
        return len(bins) * num_columns(lengths, bins, device=self._device)

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of each of `rows`, in nats: shape (rows,), fp64."""
        batch = self.collated(rows)
        hidden = predicting_states(model, batch)

        def losses_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            return F.cross_entropy(hidden.logits(states), batch.targets[part], reduction="none")

        return batch.row_sums(map_chunks(hidden, losses_of))

    def collated(self, rows: list[int]) -> MicroBatch:
        """The tensors of `rows`."""
        return collate(
            self._tokens, rows, pad_id=_PAD_ID, device=self._device, lay_out=self._lay_out
        )

    def training_states(self, model: Any, batch: MicroBatch) -> HiddenStates:
        """As `predicting_states`, with the noise of training."""
        regularization = self._regularization
        with noisy_embeddings(model, regularization=regularization, row_lengths=batch.row_lengths):
            return predicting_states(model, batch)

    def smoothed_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy summed over the targets, smoothed as the job asks."""
        return self._summed(logits, targets, smoothing=self._regularization.label_smoothing)

    def smoothed_losses(
        self, hidden: HiddenStates, states: torch.Tensor, batch: MicroBatch, part: slice
    ) -> torch.Tensor:
        """As `smoothed_loss`, of each target of a part of the batch: shape (part,), fp32."""
        return F.cross_entropy(
            hidden.logits(states),
            batch.targets[part],
            reduction="none",
            label_smoothing=self._regularization.label_smoothing,
        )


def _summed_nll(logits: torch.Tensor, targets: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    # In fp32: autocast leaves bf16, and a sum over the vocabulary needs more digits.
    return F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=smoothing)


def predicting_states(model: Any, batch: MicroBatch) -> HiddenStates:
    """What the blocks make of the positions that predict."""
    # NB: without a mask, and without positions where rows do not share lines: see `collate`.
    packed = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
    return HiddenStates(model, positions=batch.positions, input_ids=batch.input_ids, **packed)


def target_logits(model: Any, batch: MicroBatch) -> torch.Tensor:
    """Logits of the predicting positions, shape (targets, vocabulary).

    Without logits for any other position: with a vocabulary of 49 thousand and a mask over the
    prompts, the head would otherwise be most of the work and of the memory. The hidden states of
    the predicting positions are selected in front of the output head, so that whatever the model
    does with its logits afterwards (scaling, soft caps) still happens.
    """
    with _selected_in_front_of(model.get_output_embeddings(), positions=batch.positions):
        logits: torch.Tensor = model(input_ids=batch.input_ids, use_cache=False).logits
    return logits


@contextmanager
def _selected_in_front_of(head: torch.nn.Module, *, positions: torch.Tensor) -> Iterator[None]:
    def select(_head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, positions),)

    # NB: removed again in any case. A hook that stayed would cut what `evaluate` and `export` read.
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
