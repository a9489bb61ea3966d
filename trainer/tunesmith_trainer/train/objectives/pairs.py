"""Pairs of a chosen and a rejected answer as a forward pass takes them, and how likely they are."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.dataloader import collate, num_columns
from tunesmith_trainer.train.objectives.cross_entropy import target_logits
from tunesmith_trainer.train.packing import one_per_line
from tunesmith_trainer.train.token_counts import TokenCounts, count_tokens, input_lengths

_PAD_ID: Final = 0


class Pairs:
    """The pairs of one set; both arguments have a row for each, in the same order.

    Raises:
        ValueError: they have not.
    """

    def __init__(self, chosen: TokenRows, rejected: TokenRows, *, device: torch.device) -> None:
        if len(chosen) != len(rejected):
            raise ValueError(f"{len(chosen)} chosen answers and {len(rejected)} rejected ones")
        self._chosen, self._rejected = chosen, rejected
        self._tokens = chosen.followed_by(rejected)
        self._device = device
        self.num_targets: NDArray[np.int64] = np.add.reduceat(
            chosen.trained, chosen.offsets[:-1], dtype=np.int64
        )
        self.lengths: NDArray[np.int64] = chosen.lengths + rejected.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def subset(self, rows: list[int]) -> "Pairs":
        """These pairs alone."""
        chosen, rejected = (side.subset(rows) for side in (self._chosen, self._rejected))
        return Pairs(chosen, rejected, device=self._device)

    def log_probabilities(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Log-probability of each answer, nats over all its targets.

        Shape (2, rows), fp32: the chosen answers, then the rejected ones.
        """
        # NB: both sides in one forward pass. Layers that gather their inputs, as those of FSDP do,
        # would otherwise do so twice, and dropout would be drawn apart.
        sides = self._sides(rows)
        batch = collate(self._tokens, sides, pad_id=_PAD_ID, device=self._device)
        logits = target_logits(model, batch).float()
        of_targets = -F.cross_entropy(logits, batch.targets, reduction="none")
        side_of = batch.positions // batch.input_ids.shape[1]
        sums = torch.zeros(len(sides), device=self._device).index_add(0, side_of, of_targets)
        return sums.view(2, len(rows))

    def token_counts(self, rows: list[int]) -> TokenCounts:
        """The tokens of both answers of `rows`."""
        return count_tokens(self._tokens, self._sides(rows))

    def num_positions(self, rows: list[int]) -> int:
        """Places of one forward pass over both answers of `rows`."""
        lengths = input_lengths(self._tokens, self._sides(rows))
        return len(lengths) * num_columns(lengths, one_per_line(lengths), device=self._device)

    def _sides(self, rows: list[int]) -> list[int]:
        """Numbers of the chosen answers, then of the rejected ones."""
        return [*rows, *(len(self) + row for row in rows)]
