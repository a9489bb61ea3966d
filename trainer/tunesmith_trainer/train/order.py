"""Which rows each step trains on: a pure function of the seed and the step.

Epochs are seeded permutations laid end to end, and a step takes the next `batch_size` rows; so the
step number alone is the position in the data, and a resumed run reads the rows it would have read.
"""

import numpy as np
from numpy.typing import NDArray


class RowOrder:
    """The endless stream of training rows."""

    def __init__(self, num_rows: int, *, batch_size: int, seed: int) -> None:
        self._num_rows = num_rows
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.arange(0)

    def rows_of(self, step: int) -> list[int]:
        """Row numbers of optimizer step `step`, counted from 1; a batch may span two epochs."""
        first = (step - 1) * self._batch_size
        return [self._row_at(place) for place in range(first, first + self._batch_size)]

    def epoch_after(self, step: int) -> float:
        """How often the data has been read once `step` steps are done."""
        return step * self._batch_size / self._num_rows

    def _row_at(self, place: int) -> int:
        epoch, index = divmod(place, self._num_rows)
        if epoch != self._epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._permutation = generator.permutation(self._num_rows)
            self._epoch = epoch
        return int(self._permutation[index])


def micro_batches(
    rows: list[int], *, lengths: NDArray[np.int64], size: int, rank: int, num_ranks: int
) -> list[list[int]]:
    """The share of one rank, in micro batches of at most `size` rows.

    Rows are dealt out by length, longest first: ranks get about equal work, micro batches hold rows
    of about equal length, and a batch that does not fit into memory fails at once. The loss is a
    sum over the whole batch, so the order within it changes nothing but rounding.
    """
    by_length = sorted(rows, key=lambda row: -int(lengths[row]))
    share = by_length[rank::num_ranks]
    return [share[first : first + size] for first in range(0, len(share), size)]
