"""From the step's number to the tensors of a forward pass: sampler, share of a worker, collator.

`loop` asks for each in turn. Nothing here has a state that a checkpoint would have to keep: epochs
are seeded permutations laid end to end, a step takes the next `batch_size` rows, so the step number
alone is the position in the data, and a resumed run reads the rows it would have read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.packing import Bins, LayOut, longest_line, one_per_line

# Any number: it tells the two streams of a seed apart.
_REPLAY_STREAM: Final = 1
# Of an accelerator; 64 of bf16 are 128 bytes, a line of its cache.
_ALIGNED: Final = 64


class Sampler(Protocol):
    """Which rows of the training set a step takes: a function of the step alone."""

    def rows_of(self, step: int) -> list[int]:
        """Row numbers of optimizer step `step`, counted from 1."""
        ...

    def epoch_after(self, step: int) -> float:
        """How often the job's own rows have been read once `step` steps are done."""
        ...


class RowStream:
    """Row numbers without end: seeded permutations of them, laid end to end."""

    def __init__(self, num_rows: int, *, seed: Sequence[int]) -> None:
        self.num_rows = num_rows
        self._seed = seed
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.arange(0)

    def rows(self, places: range) -> list[int]:
        """The row numbers at these places of the stream."""
        return [self._row_at(place) for place in places]

    def _row_at(self, place: int) -> int:
        epoch, index = divmod(place, self.num_rows)
        if epoch != self._epoch:
            # NB: a generator for each epoch, seeded with its number, and numpy's rather than
            # torch's global one: what else draws from that (dropout) must not move the order of the
            # rows.
            generator = np.random.default_rng([*self._seed, epoch])
            self._permutation = generator.permutation(self.num_rows)
            self._epoch = epoch
        return int(self._permutation[index])


class RowSampler:
    """The job's own rows, `batch_size` a step; a batch may span two epochs."""

    def __init__(self, num_rows: int, *, batch_size: int, seed: int) -> None:
        self._own = RowStream(num_rows, seed=[seed])
        self._batch_size = batch_size

    def rows_of(self, step: int) -> list[int]:
        """Row numbers of optimizer step `step`, counted from 1."""
        return self._own.rows(range((step - 1) * self._batch_size, step * self._batch_size))

    def epoch_after(self, step: int) -> float:
        """How often the data has been read once `step` steps are done."""
        return step * self._batch_size / self._own.num_rows


class ReplaySampler:
    """Own rows and replay rows in one batch; replay rows are numbered behind the own ones.

    Of all rows drawn by the end of a step, `ratio` are replay rows, rounded down. Own rows come in
    the order that they have without replay.
    """

    def __init__(
        self, num_rows: int, *, num_replay: int, ratio: float, batch_size: int, seed: int
    ) -> None:
        self._own = RowStream(num_rows, seed=[seed])
        # Another stream of numbers, or both sets of one size would be shuffled alike.
        self._replay = RowStream(num_replay, seed=[seed, _REPLAY_STREAM])
        self._ratio = ratio
        self._batch_size = batch_size

    def rows_of(self, step: int) -> list[int]:
        """Row numbers of optimizer step `step`, counted from 1."""
        before, after = self._num_replayed(step - 1), self._num_replayed(step)
        size = self._batch_size
        own = self._own.rows(range((step - 1) * size - before, step * size - after))
        replayed = self._replay.rows(range(before, after))
        return [*own, *(self._own.num_rows + row for row in replayed)]

    def epoch_after(self, step: int) -> float:
        """How often the job's own rows have been read once `step` steps are done."""
        return (step * self._batch_size - self._num_replayed(step)) / self._own.num_rows

    def _num_replayed(self, step: int) -> int:
        return int(self._ratio * step * self._batch_size)


def micro_batches(
    rows: list[int], *, lengths: NDArray[np.int64], size: int, rank: int, num_ranks: int
) -> list[list[int]]:
    """The share of one rank, in micro batches of at most `size` rows.

    Rows are dealt out by length, longest first: ranks get about equal work, micro batches hold rows
    of about equal length, and a batch that does not fit into memory fails at once. The loss is a
    sum over the whole batch, so the order within it changes nothing but rounding.
    """
    # A rank may get none: a batch of three rows on four workers. It joins the sums with zeros.
    by_length = sorted(rows, key=lambda row: -int(lengths[row]))
    share = by_length[rank::num_ranks]
    return [share[first : first + size] for first in range(0, len(share), size)]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The rows of one forward pass.

    `input_ids` has shape (lines, columns) and is padded on the right; a line holds one row, or
    several end to end. `position_ids` are of the same shape, and restart with every row of a line;
    None where no line has two. `row_lengths` is, for each of them, how long the row is that the
    token belongs to. `positions` (targets,) points into the flattened inputs at the tokens that
    predict; `targets` (targets,) are the token ids to be predicted there, row after row of `order`,
    places in the list of rows that were asked for; `num_targets` says how many each of these has.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor | None
    row_lengths: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    order: list[int]
    num_targets: list[int]

    def row_sums(self, of_targets: torch.Tensor) -> torch.Tensor:
        """Sums over the targets of each row, shape (rows,), in the order that was asked for."""
        sums = torch.stack([of_row.sum() for of_row in of_targets.split(self.num_targets)])
        return torch.empty_like(sums).index_copy(
            0, torch.tensor(self.order, device=sums.device), sums
        )


def num_columns(lengths: Sequence[int], bins: Bins, *, device: torch.device) -> int:
    """Tokens of each line, padding included."""
    longest = longest_line(lengths, bins)
    # Kernels of an accelerator want lines that begin at multiples of 16 bytes, and torch.compile
    # makes one for each divisor that a length has or lacks, until it gives up after eight.
    multiple = 1 if device.type == "cpu" else _ALIGNED
    return -(-longest // multiple) * multiple


def collate(
    tokens: TokenRows,
    rows: list[int],
    *,
    pad_id: int,
    device: torch.device,
    lay_out: LayOut = one_per_line,
) -> MicroBatch:
    """Pad the lines to `num_columns`; `pad_id` is any token id, for no padding is trained.

    What follows the last target of a row predicts nothing and is cut.
    """
    cut = []
    for row in rows:
        ids, trained = tokens.row(row)
        end = int(np.flatnonzero(trained)[-1]) + 1
        cut.append((ids[:end], trained[:end]))
    # The last token of a row is only ever predicted, so the inputs are one shorter.
    lengths = [len(ids) - 1 for ids, _ in cut]
    bins = lay_out(lengths)
    columns = num_columns(lengths, bins, device=device)
    # NB: padded on the right, and the model gets no attention mask: it is causal, so padding that
    # only follows the tokens that matter changes nothing, and attention keeps its fast kernel.
    # With a mask of ours, transformers would not make its block-diagonal one from the positions,
    # and rows of a line would see each other without a word.
    input_ids = np.full((len(bins), columns), pad_id, dtype=np.int64)
    # Padding counts as a part of the row before it, whose tokens cannot see it.
    position_ids = np.tile(np.arange(columns), (len(bins), 1))
    row_lengths = np.empty((len(bins), columns), dtype=np.int64)
    positions, targets = [], []
    for number, line in enumerate(bins):
        start = 0
        for place in line:
            (ids, trained), end = cut[place], start + lengths[place]
            input_ids[number, start:end] = ids[:-1]
            position_ids[number, start:] = np.arange(columns - start)
            row_lengths[number, start:] = lengths[place]
            predicted = np.flatnonzero(trained)
            # Token n is predicted at n - 1.
            positions.append(predicted - 1 + start + number * columns)
            targets.append(ids[predicted].astype(np.int64))
            start = end
    is_packed = len(bins) < len(rows)
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids).to(device),
        position_ids=torch.from_numpy(position_ids).to(device) if is_packed else None,
        row_lengths=torch.from_numpy(row_lengths).to(device),
        positions=torch.from_numpy(np.concatenate(positions)).to(device),
        targets=torch.from_numpy(np.concatenate(targets)).to(device),
        order=[place for line in bins for place in line],
        num_targets=[len(of_row) for of_row in targets],
    )
