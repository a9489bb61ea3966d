"""How much of what moves an answer lies on the highlights of its prompt, by occlusion.

Each word is cut out of the prompt once; what the answer loses or wins in likelihood by that, in
nats per token and without its sign, is what the word does. It is no gradient, so that what was
trained by gradients is judged by something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.explain.highlighted_rows import HighlightedRow

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Occlusions:
    """Rows to score: each highlighted row as it is, and behind it once without each unit.

    Attributes:
        tokens: all of them, of which the last answer is what is scored.
        bounds: where those of each row start, and the end of the last; shape (rows + 1,).
        is_inside: of each of `tokens`, whether what is cut out is highlighted.
        chance: of each row, the part of its words that is highlighted.
        num_targets: of each row, the tokens of its answer.
    """

    tokens: TokenRows
    bounds: NDArray[np.int64]
    is_inside: NDArray[np.bool_]
    chance: Floats
    num_targets: Floats

    @classmethod
    def of(cls, rows: Sequence[HighlightedRow]) -> "Occlusions":
        """Those of `rows`."""
        whole_and_cut = [[(False, row.ids, row.num_prompt), *_cut(row)] for row in rows]
        everything = [one for of_row in whole_and_cut for one in of_row]
        return cls(
            tokens=TokenRows.of(
                (ids, [at >= num_prompt for at in range(len(ids))])
                for _, ids, num_prompt in everything
            ),
            bounds=np.cumsum([0, *map(len, whole_and_cut)]),
            is_inside=np.array([is_inside for is_inside, _, _ in everything]),
            chance=np.array([row.chance for row in rows]),
            num_targets=np.array([len(row.ids) - row.num_prompt for row in rows], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def shares(self, losses: Floats) -> Floats:
        """Of each row, from its and its cut versions' summed losses: from 0 to 1."""
        spans = enumerate(pairwise(self.bounds.tolist()))
        return np.array([self.share(row, losses[start:end]) for row, (start, end) in spans])

    def share(self, row: int, losses: Floats) -> float:
        """That of one row, from its summed loss and those of its cut versions."""
        effects = np.abs(losses[1:] - losses[0])
        inside = self.is_inside[self.bounds[row] + 1 : self.bounds[row + 1]]
        total = effects.sum()
        # Where no word does anything, none does more than another.
        return float(effects[inside].sum() / total) if total else float(self.chance[row])


def _cut(row: HighlightedRow) -> list[tuple[bool, tuple[int, ...], int]]:
    cut = []
    for is_inside, unit in row.left_out():
        gone = set(unit.tokens)
        ids = tuple(token for at, token in enumerate(row.ids) if at not in gone)
        cut.append((is_inside, ids, row.num_prompt - len(gone)))
    return cut
