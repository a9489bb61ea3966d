"""Texts as vectors: hashed words, weighted by how rare they are (tf-idf), of length one.

For what compares texts by their subject: label errors and topic clusters. A text without a word is
the zero vector.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, vstack

from tunesmith_trainer.data.cleaning.shingles import blocks_of, shingles_of

# Columns that words share by chance: few do, of the some thousand words that tell subjects apart.
_COLUMNS: Final = 1 << 13
# A sparse array of scipy's, which has no types.
Vectors: TypeAlias = Any


def word_vectors(texts: Iterable[str]) -> Vectors:
    """A row for each text."""
    counts = vstack([_counted(block) for block in blocks_of(texts)], format="csr")
    num_with = np.bincount(counts.indices, minlength=_COLUMNS)
    rarity = np.log((1 + counts.shape[0]) / (1 + num_with)) + 1
    # Half of what a word says it says when it stands there once: logarithms of the counts.
    counts.data = 1 + np.log(counts.data)
    weighted = counts @ diags_array(rarity)
    lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1))
    return csr_array(diags_array(1 / np.maximum(lengths, 1e-12)) @ weighted)


def _counted(texts: list[str]) -> Vectors:
    words = shingles_of(texts, width=1)
    columns = (words.hashes % np.uint64(_COLUMNS)).astype(np.int32)
    # 32 bits, as scikit-learn wants them.
    starts = words.starts.astype(np.int32)
    counts = csr_array((np.ones(len(columns)), columns, starts), shape=(len(texts), _COLUMNS))
    counts.sum_duplicates()
    return counts


def codes_of(values: Iterable[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each value among the distinct ones, and those, in their order."""
    names, codes = np.unique(np.array(list(values), dtype=object), return_inverse=True)
    return codes.astype(np.int64), [str(name) for name in names]
