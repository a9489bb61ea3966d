"""Shapley values without drawing: exact for few players, Owen values for many. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
Values = NDArray[np.float64]
Value = Callable[[Masks], Values]

# 256 coalitions.
MOST_EXACT: Final = 8


def exact_shapley(value: Value, *, num_players: int) -> Values:
    """The closed form (Shapley 1953): each player's gain, over all coalitions of the others."""
    masks = np.array(list(product([False, True], repeat=num_players)))
    worth, sizes = value(masks), masks.sum(axis=1)
    # product() counts in binary, the first player being the highest digit.
    places = 1 << np.arange(num_players - 1, -1, -1)
    shares = np.zeros(num_players)
    for player, place in enumerate(places):
        without = np.flatnonzero(~masks[:, player])
        weights = [1 / (num_players * comb(num_players - 1, int(size))) for size in sizes[without]]
        shares[player] = np.dot(weights, worth[without + place] - worth[without])
    return shares


@dataclass(frozen=True, slots=True)
class _Node:
    """Units from `start` to before `end` beside the units `outside`, and how much that counts."""

    start: int
    end: int
    outside: Masks
    weight: float

    @property
    def middle(self) -> int:
        return (self.start + self.end) // 2

    def beside(self, start: int, end: int) -> Masks:
        """`outside`, and these units."""
        mask = self.outside.copy()
        mask[start:end] = True
        return mask

    def halves(self) -> list["_Node"]:
        """Each half, without the other and beside it."""
        left, right = (self.start, self.middle), (self.middle, self.end)
        return [
            _Node(*half, outside, self.weight / 2)
            for half, other in ((left, right), (right, left))
            for outside in (self.outside, self.beside(*other))
        ]


def owen_values(value: Value, *, num_players: int, most: int) -> Values:
    """Owen values (1977) over a tree of halves, as partition SHAP has them; they sum to the whole.

    A half gets the mean of what it adds without the other half and beside it. Nodes that move more
    are parted first; of those for which `most` coalitions do not suffice, each unit gets an equal
    part.
    """
    known = _Known(value)
    nodes = [_Node(0, num_players, np.zeros(num_players, np.bool_), 1.0)]
    known.ask([nodes[0].outside, nodes[0].beside(0, num_players)])
    shares = np.zeros(num_players)
    while nodes:
        totals = {id(node): node.weight * known.gain(node) for node in nodes}
        nodes.sort(key=lambda node: -abs(totals[id(node)]))
        parted: list[_Node] = []
        asked: list[Masks] = []
        for node in nodes:
            is_leaf = node.end - node.start == 1
            if is_leaf or len(known) + len(asked) + 2 > most:
                shares[node.start : node.end] += totals[id(node)] / (node.end - node.start)
                continue
            asked += [node.beside(node.start, node.middle), node.beside(node.middle, node.end)]
            parted.append(node)
        known.ask(asked)
        nodes = [half for node in parted for half in node.halves()]
    return shares


class _Known:
    """The coalitions that were scored."""

    def __init__(self, value: Value) -> None:
        self._value = value
        self._worth: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._worth)

    def ask(self, masks: list[Masks]) -> None:
        """Score what is new, in one batch."""
        new = {mask.tobytes(): mask for mask in masks if mask.tobytes() not in self._worth}
        if new:
            self._worth.update(zip(new, self._value(np.stack([*new.values()])), strict=True))

    def gain(self, node: _Node) -> float:
        """What the node adds to the units outside."""
        whole = node.beside(node.start, node.end)
        return self._worth[whole.tobytes()] - self._worth[node.outside.tobytes()]
