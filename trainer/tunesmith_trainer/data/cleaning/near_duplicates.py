"""Texts that are nearly the same: MinHash signatures, banded, and exact Jaccard for what collides.

The field's way (Broder 1997; Leskovec et al., Mining of Massive Datasets, ch. 3), in numpy. What
shares a band is only suspected: two texts are near-duplicates if the Jaccard similarity of their
shingles is at least the threshold, so that chance adds none, and misses about 3 % at the threshold
itself and fewer above it. Memory is four bytes per row and band, and one chunk of text.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.cleaning.shingles import Hashes, chunks_of, mixed, shingles_of

# Words. Pairs of words keep 0.81 of themselves where a tenth of the words is replaced, runs of
# five only 0.59; single words say too little of a conversation.
SHINGLE_WIDTH: Final = 2
_PERMUTATIONS: Final = 128
# The least part of the pairs at the threshold that some band finds.
_RECALL: Final = 0.97
# Bits of a shingle that stay beside the number of its pair, of which the others hold one.
_KEPT_BITS: Final = 50
_PAIRS_AT_A_TIME: Final = 1 << (64 - _KEPT_BITS - 1)

Pairs = NDArray[np.int64]


def near_duplicate_groups(texts: Sequence[str], threshold: float, seed: int) -> list[int]:
    """For each text the place of the first one of its group; its own where it is like no other.

    Groups are closed: what is like a member is a member. Texts without a word are like none.
    """
    keys = _band_keys(texts, threshold=threshold, seed=seed)
    groups = np.arange(len(texts))
    for band in keys:
        _join(groups, _unjoined(groups, _suspects(band)), texts, threshold=threshold)
    return [int(_root(groups, place)) for place in range(len(texts))]


def bands_for(threshold: float) -> tuple[int, int]:
    """Bands, and hashes in each: as many of these as leave the recall at the threshold.

    More hashes in a band suspect fewer pairs that are not alike.
    """
    for width in range(_PERMUTATIONS, 1, -1):
        num = _PERMUTATIONS // width
        if 1 - (1 - threshold**width) ** num >= _RECALL:
            return num, width
    return _PERMUTATIONS, 1


def _band_keys(texts: Sequence[str], *, threshold: float, seed: int) -> NDArray[np.uint32]:
    """A row for each band, a column for each text; 0 for texts without words."""
    num, width = bands_for(threshold)
    factors = np.random.default_rng(seed).integers(
        0, 1 << 64, size=(num, width), dtype=np.uint64
    ) | np.uint64(1)
    keys = np.zeros((num, len(texts)), np.uint32)
    for chunk in chunks_of(texts):
        shingles = shingles_of(texts[chunk], width=SHINGLE_WIDTH)
        filled = np.flatnonzero(np.diff(shingles.starts))
        if len(filled):
            firsts = shingles.starts[filled]
            keys[:, chunk.start + filled] = _keys_of(shingles.hashes, firsts, factors)
    return keys


def _keys_of(
    hashes: Hashes, firsts: NDArray[np.int64], factors: NDArray[np.uint64]
) -> NDArray[np.uint32]:
    keys = np.zeros((len(factors), len(firsts)), np.uint64)
    scratch = np.empty_like(hashes)
    for band, in_band in enumerate(factors):
        for factor in in_band:
            np.multiply(hashes, factor, out=scratch)
            keys[band] = mixed(keys[band] + np.minimum.reduceat(scratch, firsts))
    # 0 is kept for texts without words.
    return np.maximum(keys >> np.uint64(32), 1).astype(np.uint32)


def _suspects(band: NDArray[np.uint32]) -> Pairs:
    """Texts of one bucket: each with the first one, and with the one before it.

    Not each with each: a thousand copies would be half a million pairs.
    """
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    is_first = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(band) else ordered
    first_of = np.maximum.accumulate(np.where(is_first, np.arange(len(band)), 0))
    others = np.flatnonzero(~is_first.astype(bool) & (ordered != 0))
    stars = np.stack((order[first_of[others]], order[others]), axis=1)
    chains = np.stack((order[others - 1], order[others]), axis=1)
    return np.unique(np.concatenate((stars, chains)), axis=0)


def _unjoined(groups: NDArray[np.int64], pairs: Pairs) -> Pairs:
    """Those that no earlier band has brought together."""
    roots = groups[pairs]
    while not np.array_equal(roots, groups[roots]):
        roots = groups[roots]
    return pairs[roots[:, 0] != roots[:, 1]]


def _join(
    groups: NDArray[np.int64], pairs: Pairs, texts: Sequence[str], *, threshold: float
) -> None:
    for first, second in pairs[jaccard(texts, pairs) >= threshold]:
        one, other = _root(groups, first), _root(groups, second)
        groups[max(one, other)] = min(one, other)


def jaccard(texts: Sequence[str], pairs: Pairs) -> NDArray[np.float64]:
    """The similarity of each pair: shingles in both, of those in either."""
    begins = range(0, len(pairs), _PAIRS_AT_A_TIME)
    some = [_jaccard(texts, pairs[begin : begin + _PAIRS_AT_A_TIME]) for begin in begins]
    return np.concatenate([np.zeros(0), *some])


def _jaccard(texts: Sequence[str], pairs: Pairs) -> NDArray[np.float64]:
    places, numbers = np.unique(pairs, return_inverse=True)
    found = _unique_shingles([texts[place] for place in places])
    sizes = np.bincount(found[0], minlength=len(places))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    sides = numbers.reshape(pairs.shape)
    keys = []
    for side in sides.T:
        counts = sizes[side]
        owners = np.repeat(np.arange(len(side)), counts)
        inside = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = found[1][starts[side][owners] + inside] >> np.uint64(64 - _KEPT_BITS)
        keys.append((owners.astype(np.uint64) << np.uint64(_KEPT_BITS)) | kept)
    both = np.sort(np.concatenate(keys))
    shared = both[1:][both[1:] == both[:-1]] >> np.uint64(_KEPT_BITS)
    common = np.bincount(shared.astype(np.int64), minlength=len(pairs))
    whole = sizes[sides].sum(axis=1) - common
    return common / np.maximum(whole, 1)


def _unique_shingles(texts: Sequence[str]) -> tuple[NDArray[np.int64], Hashes]:
    """Text and hash of each shingle, once for each text, in order of the texts."""
    shingles = shingles_of(texts, width=SHINGLE_WIDTH)
    order = np.lexsort((shingles.hashes, shingles.owners))
    owners, hashes = shingles.owners[order], shingles.hashes[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1])
    return owners[is_new], hashes[is_new]


def _root(groups: NDArray[np.int64], place: int) -> int:
    while groups[place] != place:
        groups[place] = groups[groups[place]]
        place = groups[place]
    return place
