"""Whether new texts are as different from each other as the job's own, by two cheap measures.

distinct-2 is the part of the pairs of words that are told apart (Li et al. 2016, arXiv 1510.03055);
it falls with the number of texts, so that as many of both are measured. The other is the mean
Jaccard similarity of two texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_trainer.data.cleaning.near_duplicates import SHINGLE_WIDTH, jaccard, sets_of
from tunesmith_trainer.data.cleaning.shingles import shingles_of

_MOST_TEXTS: Final = 1000
_PAIRS: Final = 2000
# Of fewer texts neither measure tells anything.
_LEAST_TEXTS: Final = 8
# A collapse is half the distinct pairs, or three times the likeness where that is no trifle.
_LEAST_DISTINCT: Final = 0.5
_MOST_LIKENESS: Final = 3.0
_TRIFLE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Diversity:
    """Of so many texts; both measures are from 0 to 1."""

    num_texts: int
    distinct2: float
    similarity: float


def measured(texts: Sequence[str], *, num_texts: int, seed: int) -> Diversity:
    """Measure so many of the texts, chosen by the seed."""
    random = np.random.default_rng(seed)
    size = min(len(texts), num_texts, _MOST_TEXTS)
    chosen = [texts[place] for place in sorted(random.permutation(len(texts))[:size])]
    hashes = shingles_of(chosen, width=SHINGLE_WIDTH).hashes
    pairs = random.integers(0, max(size, 1), size=(_PAIRS, 2)) if size else np.zeros((0, 2), int)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return Diversity(
        num_texts=size,
        distinct2=round(len(np.unique(hashes)) / max(len(hashes), 1), 4),
        similarity=round(float(jaccard(sets_of(chosen), pairs).mean()), 4) if len(pairs) else 0.0,
    )


def collapse_of(new: Diversity, own: Diversity) -> str | None:
    """What is wrong with the new texts, with its numbers; None where nothing is."""
    if new.num_texts < _LEAST_TEXTS:
        return None
    told = []
    if new.distinct2 < _LEAST_DISTINCT * own.distinct2:
        told.append(f"distinct-2 is {new.distinct2:.2f}, and {own.distinct2:.2f} of own questions")
    if new.similarity > max(_MOST_LIKENESS * own.similarity, _TRIFLE):
        told.append(
            f"two of them are {new.similarity:.2f} alike on average, own questions "
            f"{own.similarity:.2f}"
        )
    return "; ".join(told) or None
