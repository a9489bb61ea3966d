"""Cross-entropy over rows of which some have a companion: another row in the same forward pass."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.dataloader import MicroBatch, num_columns
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import LayOut
from tunesmith_trainer.train.token_counts import TokenCounts, count_tokens, input_lengths


class WithCompanions(CrossEntropy):
    """Rows and their companions, which belong to the rows of these `numbers`, in order.

    NB: both go through the model in one forward pass. Layers that gather their inputs, as those of
    FSDP do, would otherwise do so twice, on some workers alone.
    """

    def __init__(
        self,
        tokens: TokenRows,
        *,
        numbers: Sequence[int],
        companions: TokenRows,
        device: torch.device,
        lay_out: LayOut,
        regularization: Regularization,
    ) -> None:
        super().__init__(
            tokens.followed_by(companions),
            device=device,
            lay_out=lay_out,
            regularization=regularization,
        )
        self._companion_of: Mapping[int, int] = {
            row: len(tokens) + place for place, row in enumerate(numbers)
        }
        self._lengths = lengths_with(tokens, numbers=numbers, companions=companions)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, those of its companion included: shape (rows,)."""
        return self._lengths

    def token_counts(self, rows: list[int]) -> TokenCounts:
        """The tokens of `rows` and of their companions."""
        return count_tokens(self._tokens, self.sides(rows))

    def num_positions(self, rows: list[int]) -> int:
        """Places of one forward pass over `rows` and their companions."""
        lengths = input_lengths(self._tokens, self.sides(rows))
        bins = self._lay_out(lengths)
        return len(bins) * num_columns(lengths, bins, device=self._device)

    def sides(self, rows: list[int]) -> list[int]:
        """`rows`, and behind them the companions that they have, in the same order."""
        return [*rows, *(self._companion_of[row] for row in rows if row in self._companion_of)]

    def pairs(self, rows: list[int]) -> list[tuple[int, int]]:
        """Places among `sides` of each row that has a companion, and of the companion."""
        paired = [place for place, row in enumerate(rows) if row in self._companion_of]
        return [(place, len(rows) + number) for number, place in enumerate(paired)]


def lengths_with(
    tokens: TokenRows, *, numbers: Sequence[int], companions: TokenRows
) -> NDArray[np.int64]:
    """Tokens of each row, those of its companion included: shape (rows,)."""
    lengths: NDArray[np.int64] = tokens.lengths.copy()
    lengths[list(numbers)] += companions.lengths
    return lengths


def targets_of_rows(batch: MicroBatch) -> list[int]:
    """How many targets each row has, in the order that was asked for."""
    numbers = [0] * len(batch.order)
    for place, number in zip(batch.order, batch.num_targets, strict=True):
        numbers[place] = number
    return numbers


def of_targets(batch: MicroBatch, of_rows: NDArray[np.float64]) -> torch.Tensor:
    """A number of each row, for each of its targets: shape (targets,), fp32."""
    values = np.repeat(of_rows[batch.order], batch.num_targets)
    return torch.as_tensor(values, dtype=torch.float32, device=batch.targets.device)


def spans_of_rows(batch: MicroBatch) -> list[range]:
    """Places of each row's targets, in the order that was asked for."""
    spans, start = [range(0)] * len(batch.order), 0
    for place, number in zip(batch.order, batch.num_targets, strict=True):
        spans[place] = range(start, start + number)
        start += number
    return spans
