"""Training rows that hold held-out rows, by n-grams of words.

It takes the memory of what is held out. The measure is PaLM's: how many of a held-out row's n-grams
stand in one training row. Of a row of fewer words than an n-gram has, all of them are one; a few
words say nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.cleaning.shingles import Hashes, Shingles, blocks_of, shingles_of

# Words; greetings and "thank you very much" are in everybody's rows.
_LEAST_WORDS: Final = 5


@dataclass(frozen=True, slots=True)
class HeldOutGrams:
    """The n-grams of the held-out texts in ascending order, whose they are, and of how many."""

    hashes: Hashes
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write them for another stage: hashes tell no word of the rows."""
        np.savez(path, hashes=self.hashes, owners=self.owners, sizes=self.sizes)

    @classmethod
    def load(cls, path: Path) -> "HeldOutGrams":
        """As they were saved."""
        with np.load(path, allow_pickle=False) as kept:
            return cls(kept["hashes"], kept["owners"], kept["sizes"])


def contaminated(
    texts: Iterable[str], held_out: Sequence[str], *, ngram: int, overlap: float
) -> dict[int, int]:
    """Places of texts that hold a held-out one, and the place of that."""
    return holding(texts, grams_of(held_out, ngram=ngram), ngram=ngram, overlap=overlap)


def holding(
    texts: Iterable[str], index: HeldOutGrams, *, ngram: int, overlap: float
) -> dict[int, int]:
    """The same, of held-out texts whose n-grams of so many words are known."""
    found: dict[int, int] = {}
    begin = 0
    for block in blocks_of(texts) if len(index.hashes) else ():
        shingles = _distinct(shingles_of(block, width=ngram))
        for text, other in _overlaps(shingles, index, overlap=overlap):
            found.setdefault(begin + text, other)
        begin += len(block)
    return found


def grams_of(held_out: Sequence[str], *, ngram: int) -> HeldOutGrams:
    """The n-grams of held-out texts."""
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    begin = 0
    for texts in blocks_of(held_out):
        shingles = _distinct(shingles_of(texts, width=ngram))
        says_something = np.array([len(text.split()) >= _LEAST_WORDS for text in texts])
        # A script without spaces has many words in one.
        says_something |= np.diff(shingles.starts) > 1
        kept = says_something[shingles.owners]
        hashes.append(shingles.hashes[kept])
        owners.append(shingles.owners[kept] + begin)
        begin += len(texts)
    all_hashes, all_owners = np.concatenate(hashes), np.concatenate(owners)
    order = np.argsort(all_hashes, kind="stable")
    sizes = np.bincount(all_owners, minlength=len(held_out))
    return HeldOutGrams(all_hashes[order], all_owners[order], sizes)


def _distinct(shingles: Shingles) -> Shingles:
    """Each n-gram of a text once."""
    owners = shingles.owners
    order = np.lexsort((shingles.hashes, owners))
    hashes, owners = shingles.hashes[order], owners[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1])
    counts = np.bincount(owners[is_new], minlength=len(shingles.starts) - 1)
    return Shingles(hashes[is_new], np.concatenate(([0], np.cumsum(counts))))


def _overlaps(shingles: Shingles, index: HeldOutGrams, *, overlap: float) -> list[tuple[int, int]]:
    """Pairs of a text and a held-out one, in order."""
    first = np.searchsorted(index.hashes, shingles.hashes, side="left")
    behind = np.searchsorted(index.hashes, shingles.hashes, side="right")
    counts = behind - first
    texts = np.repeat(shingles.owners, counts)
    inside = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
    others = index.owners[np.repeat(first, counts) + inside]
    pairs, shared = np.unique(np.stack((texts, others), axis=1), axis=0, return_counts=True)
    enough = pairs[shared >= overlap * index.sizes[pairs[:, 1]]]
    return [(int(text), int(other)) for text, other in enough]
