"""Packing: which rows share a forward pass, and which of them lie end to end in one line of it.

Padding is computed and thrown away: of rows of skewed lengths it can be half of all work. `loop`
asks for the rows of the passes, the collator for the lines of each. Both are functions of the rows
of a step alone, so a resumed run packs them as it would have done. Rows of a line do not see each
other: their positions restart, from which transformers makes a block-diagonal mask.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The rows of each line of the tensors: places in the list of a forward pass's rows.
Bins = list[list[int]]
LayOut = Callable[[Sequence[int]], Bins]

# Attention reads a whole line, other rows' columns included. About so many columns cost as much as
# all else that a block does with a token: six times its hidden size, here of a small model.
_COLUMNS: Final = 4096
# Numbers of lines that are tried: the greatest and those below it, and halves of it.
_TRIED: Final = 4


def one_per_line(lengths: Sequence[int]) -> Bins:
    """Every row in a line of its own, padded to the longest."""
    return [[place] for place in range(len(lengths))]


def end_to_end(lengths: Sequence[int], *, max_tokens: int) -> Bins:
    """Lines of about equal length, of as many rows as makes the pass cheapest.

    With their padding they have at most `max_tokens` tokens, or as many as `lengths` have.
    """
    total, longest = sum(lengths), max(lengths)
    most = min(len(lengths), total // longest + 1)
    counts = {max(1, most - less) for less in range(_TRIED)}
    counts |= {max(1, most >> halved) for halved in range(most.bit_length())}
    # Ascending, so that of two that cost the same the one with fewer lines is taken on any machine.
    options = [_balanced(lengths, num_bins=count) for count in sorted(counts)]
    bound = max(max_tokens, total)
    fitting = [bins for bins in options if num_computed(lengths, bins) <= bound]
    return min(fitting, key=lambda bins: _cost(lengths, bins))


def packed_micro_batches(
    rows: list[int], *, lengths: NDArray[np.int64], size: int, rank: int, num_ranks: int
) -> list[list[int]]:
    """The share of one rank, in forward passes of at most as many tokens as `size` longest rows.

    Best fit, longest first. Memory is that of `size` padded rows, which is planned for.
    """
    dealt = _balanced([int(lengths[row]) for row in rows], num_bins=num_ranks)[rank]
    share = sorted((rows[place] for place in dealt), key=lambda row: -int(lengths[row]))
    passes = best_fit(
        [int(lengths[row]) for row in share], capacity=bin_capacity(lengths, size=size)
    )
    return [[share[place] for place in places] for places in passes]


def bin_capacity(lengths: NDArray[np.int64], *, size: int) -> int:
    """Tokens of a forward pass over rows of a set with these lengths."""
    return size * int(lengths.max())


def best_fit(lengths: Sequence[int], *, capacity: int) -> Bins:
    """Each in turn goes into the fullest bin that has room for it, or else into a new one.

    One that is longer than `capacity` has a bin of its own.
    """
    bins: Bins = []
    # What is left of each bin, ascending, and its number.
    left: list[tuple[int, int]] = []
    for place, length in enumerate(lengths):
        fullest = bisect_left(left, (length, 0))
        if fullest == len(left):
            room, number = capacity, len(bins)
            bins.append([])
        else:
            room, number = left.pop(fullest)
        bins[number].append(place)
        insort(left, (max(0, room - length), number))
    return bins


def num_computed(lengths: Sequence[int], bins: Bins) -> int:
    """Tokens that a forward pass computes, padding included."""
    return len(bins) * longest_line(lengths, bins)


def longest_line(lengths: Sequence[int], bins: Bins) -> int:
    """Tokens of the line that has most of them."""
    return max(sum(lengths[place] for place in line) for line in bins)


def _balanced(lengths: Sequence[int], *, num_bins: int) -> Bins:
    """Longest first, each into the emptiest bin (Graham 1969, "Bounds on multiprocessing")."""
    bins: Bins = [[] for _ in range(num_bins)]
    filled = [(0, number) for number in range(num_bins)]
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        tokens, number = filled[0]
        bins[number].append(place)
        heapq.heapreplace(filled, (tokens + lengths[place], number))
    return bins


def _cost(lengths: Sequence[int], bins: Bins) -> float:
    tokens = num_computed(lengths, bins)
    return tokens * (1 + tokens / len(bins) / _COLUMNS)
