"""How much the loss of each group counts: fixed, or moved to where the loss is high (group-DRO).

Sagawa et al. 2020 (arXiv 1911.08731), algorithm 1, with two differences. The weights begin at the
groups' own shares, so that the first step is that of plain training; and a row counts by its
group's weight over its group's share, which needs no sampling by group and no look at the batch.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_NO_TARGETS: Final = 1.0


class GroupWeights:
    """The weight of each group, moved after every step by the losses of its rows.

    `groups` has the group of every row that may be drawn, from 0; `num_targets` its targets. With
    `step_size` 0 the weights stay as they are. All workers hold the same.
    """

    def __init__(
        self, groups: NDArray[np.int64], num_targets: NDArray[np.int64], *, step_size: float
    ) -> None:
        self.groups = groups
        self._step_size = step_size
        totals = np.bincount(groups, num_targets).astype(np.float64)
        self._shares = totals / totals.sum()
        self._weights = self._shares.copy()
        self._seen = np.zeros((2, len(totals)))
        self._of_pass = np.zeros((2, len(totals)))

    @property
    def state(self) -> list[float]:
        """The weights, for a checkpoint; they sum up to 1."""
        return [float(weight) for weight in self._weights]

    def restore(self, state: Sequence[float]) -> None:
        """Go on from `state`; nothing of a run that has no step yet."""
        if state:
            self._weights = np.array(state, dtype=np.float64)

    def of_rows(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """What the loss of each of `rows` is multiplied by, shape (rows,)."""
        of_rows: NDArray[np.float64] = (self._weights / self._shares)[self.groups[list(rows)]]
        return of_rows

    def note_pass(
        self, rows: Sequence[int], losses: NDArray[np.float64], num_targets: Sequence[int]
    ) -> None:
        """The summed loss of each of `rows` in a forward pass, and its number of targets."""
        groups, size = self.groups[list(rows)], len(self._weights)
        self._of_pass = np.stack(
            [np.bincount(groups, of_rows, size) for of_rows in (losses, num_targets)]
        )

    def take_pass(self) -> None:
        """The last pass counts: it was none that only keeps workers in step."""
        self._seen += self._of_pass

    def take_seen(self) -> list[float]:
        """What this worker has seen since it was asked: losses by group, then targets."""
        seen, self._seen = self._seen, np.zeros_like(self._seen)
        return [float(number) for number in seen.ravel()]

    def move(self, seen: Sequence[float]) -> None:
        """One step of the exponentiated gradient; `seen` is that of all workers, added up.

        A group that the batch has no row of keeps its weight beside the others.
        """
        losses, targets = np.array(seen).reshape(2, -1)
        means = losses / np.where(targets > 0, targets, _NO_TARGETS)
        moved = self._weights * np.exp(self._step_size * means)
        self._weights = moved / moved.sum()


def balancing_weights(
    groups: NDArray[np.int64], num_targets: NDArray[np.int64], *, no_group: int, strength: float
) -> NDArray[np.float64]:
    """The weight of each row, shape (rows,), so that groups count as if they were of one size.

    Their mean over the targets of all rows that have a group is 1; the others keep 1.
    """
    weights = np.ones(len(groups))
    named = groups != no_group
    totals = np.bincount(groups[named], num_targets[named])
    present = totals > 0
    wanted = num_targets[named].sum() / present.sum() / np.where(present, totals, 1.0)
    factors = wanted**strength
    mean = (factors * totals).sum() / totals.sum()
    weights[named] = factors[groups[named]] / mean
    return weights
