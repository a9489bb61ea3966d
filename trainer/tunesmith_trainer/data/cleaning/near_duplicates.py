"""Texts that are nearly the same: MinHash signatures, banded, and exact Jaccard for what collides.

The field's way (Broder 1997; Leskovec et al., Mining of Massive Datasets, ch. 3), in numpy. What
shares a band is only suspected: two texts are near-duplicates if the Jaccard similarity of their
shingles is at least the threshold, so that chance adds none, and misses about 3 % at the threshold
itself and fewer above it.

Texts are read once, in order. Memory is four bytes per row and band, and some of each row's number;
the shingles, four bytes each, lie in a temporary file.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.cleaning.shingles import Shingles, blocks_of, mixed, shingles_of

# Words. Pairs of words keep 0.81 of themselves where a tenth of the words is replaced, runs of
# five only 0.59; single words say too little of a conversation.
SHINGLE_WIDTH: Final = 2
_PERMUTATIONS: Final = 128
# The least part of the pairs at the threshold that some band finds.
_RECALL: Final = 0.97
_STEP: Final = np.uint64(0xD1342543DE82EF95)
_HALF: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)
_PAIRS_AT_A_TIME: Final = 1 << 12
# Known texts of one bucket that a new one is compared with: thousands in one are all alike.
_MOST_SUSPECTS: Final = 16

# Of 64 bits, as those of `shingles`, half are kept: two texts hardly have millions of words.
Hashes = NDArray[np.uint32]
Pairs = NDArray[np.int64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """The distinct shingles of texts, ascending: of text n `hashes[starts[n]:starts[n + 1]]`."""

    hashes: Hashes
    starts: Places

    @property
    def sizes(self) -> Places:
        """How many shingles each text has."""
        return np.diff(self.starts)


def near_duplicate_groups(texts: Iterable[str], threshold: float, seed: int) -> list[int]:
    """For each text the place of the first one of its group; its own where it is like no other.

    Groups are closed: what is like a member is a member. Texts without a word are like none.
    """
    factors = _factors(threshold, seed)
    bands: list[list[Hashes]] = [[] for _ in factors]
    sizes = [np.zeros(1, np.int64)]
    with tempfile.TemporaryFile() as file:
        for block in blocks_of(texts):
            sets = sets_of(block)
            for band, keys in zip(bands, _keys_of(sets, factors), strict=True):
                band.append(keys)
            sizes.append(sets.sizes)
            file.write(sets.hashes.data)
        file.flush()
        starts = np.cumsum(np.concatenate(sizes))
        stored = np.memmap(file, np.uint32, "r") if starts[-1] else np.zeros(0, np.uint32)
        return _groups(bands, ShingleSets(stored, starts), threshold=threshold)


class NearDuplicateIndex:
    """Known texts, which new ones are compared with again and again; it is kept in memory.

    Texts are added and compared in the same bands as those of `near_duplicate_groups`.
    """

    def __init__(self, threshold: float, seed: int) -> None:
        self._threshold = threshold
        self._factors = _factors(threshold, seed)
        self._sets = ShingleSets(np.zeros(0, np.uint32), np.zeros(1, np.int64))
        # Of each band the keys with the places of their texts, in ascending order.
        self._bands = [np.zeros(0, np.uint64) for _ in self._factors]

    def add(self, texts: Iterable[str]) -> None:
        """Know these as well; their places follow those that there are."""
        for block in blocks_of(texts):
            sets, begin = sets_of(block), len(self._sets.sizes)
            for number, keys in enumerate(_keys_of(sets, self._factors)):
                places = np.arange(begin, begin + len(keys), dtype=np.uint64)
                more = (keys.astype(np.uint64) << _HALF | places)[keys != 0]
                self._bands[number] = np.sort(np.concatenate((self._bands[number], more)))
            self._sets = _joined(self._sets, sets)

    def alike(self, texts: list[str]) -> dict[int, int]:
        """For the places of those that are like a known one the place of the first of these."""
        sets, begin = sets_of(texts), len(self._sets.sizes)
        suspects = {
            (known, begin + place)
            for band, keys in zip(self._bands, _keys_of(sets, self._factors), strict=True)
            for known, place in _suspected(band, keys)
        }
        pairs = np.array(sorted(suspects), np.int64).reshape(-1, 2)
        both = _joined(self._sets, sets)
        found: dict[int, int] = {}
        for known, new in pairs[jaccard(both, pairs) >= self._threshold]:
            found.setdefault(int(new) - begin, int(known))
        return found


def _joined(one: ShingleSets, other: ShingleSets) -> ShingleSets:
    return ShingleSets(
        np.concatenate((one.hashes, other.hashes)),
        np.concatenate((one.starts, one.starts[-1] + other.starts[1:])),
    )


def _suspected(band: NDArray[np.uint64], keys: Hashes) -> Iterator[tuple[int, int]]:
    """Pairs of a known text and the place of a new one with its key; of many known ones some."""
    first = keys.astype(np.uint64) << _HALF
    begins = np.searchsorted(band, first, side="left")
    ends = np.searchsorted(band, first | _LOW, side="right")
    for place in np.flatnonzero(keys):
        end = min(int(ends[place]), int(begins[place]) + _MOST_SUSPECTS)
        for known in band[int(begins[place]) : end] & _LOW:
            yield int(known), int(place)


def bands_for(threshold: float) -> tuple[int, int]:
    """Bands, and hashes in each: as many of these as leave the recall at the threshold.

    More hashes in a band suspect fewer pairs that are not alike.
    """
    for width in range(_PERMUTATIONS, 1, -1):
        num = _PERMUTATIONS // width
        if 1 - (1 - threshold**width) ** num >= _RECALL:
            return num, width
    return _PERMUTATIONS, 1


def sets_of(texts: list[str]) -> ShingleSets:
    """The distinct shingles of some texts."""
    shingles: Shingles = shingles_of(texts, width=SHINGLE_WIDTH)
    owners = shingles.owners.astype(np.uint64)
    keys = np.sort(owners << _HALF | shingles.hashes >> _HALF)
    is_new = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
    keys = keys[is_new]
    counts = np.bincount((keys >> _HALF).astype(np.int64), minlength=len(texts))
    return ShingleSets(keys.astype(np.uint32), np.concatenate(([0], np.cumsum(counts))))


def jaccard(sets: ShingleSets, pairs: Pairs) -> NDArray[np.float64]:
    """The similarity of each pair: shingles in both, of those in either."""
    begins = range(0, len(pairs), _PAIRS_AT_A_TIME)
    some = [_jaccard(sets, pairs[begin : begin + _PAIRS_AT_A_TIME]) for begin in begins]
    return np.concatenate([np.zeros(0), *some])


def _factors(threshold: float, seed: int) -> Hashes:
    """Odd numbers that permute hashes: a row for each band."""
    drawn = np.random.default_rng(seed).integers(
        0, 1 << 32, size=bands_for(threshold), dtype=np.uint32
    )
    return drawn | np.uint32(1)


def _keys_of(sets: ShingleSets, factors: Hashes) -> Hashes:
    """A row for each band, a column for each text; 0 for texts without words."""
    filled = np.flatnonzero(sets.sizes)
    keys = np.zeros((len(factors), len(sets.sizes)), np.uint32)
    if not len(filled):
        return keys
    firsts = sets.starts[filled]
    scratch = np.empty_like(sets.hashes)
    for band, in_band in enumerate(factors):
        key = np.zeros(len(firsts), np.uint64)
        for factor in in_band:
            np.multiply(sets.hashes, factor, out=scratch)
            key = key * _STEP + np.minimum.reduceat(scratch, firsts)
        # 0 is kept for texts without words.
        keys[band, filled] = np.maximum(mixed(key) >> _HALF, 1)
    return keys


def _groups(bands: list[list[Hashes]], sets: ShingleSets, *, threshold: float) -> list[int]:
    groups = np.arange(len(sets.sizes))
    for band in bands:
        pairs = _unjoined(groups, _suspects(np.concatenate([*band, np.zeros(0, np.uint32)])))
        pairs = pairs[_may_be_alike(sets.sizes[pairs], threshold)]
        for first, second in pairs[jaccard(sets, pairs) >= threshold]:
            one, other = _root(groups, first), _root(groups, second)
            groups[max(one, other)] = min(one, other)
    return [int(place) for place in _roots(groups, np.arange(len(groups)))]


def _suspects(band: Hashes) -> Pairs:
    """Texts of one bucket: each with the first one, and with the one before it.

    Not each with each: a thousand copies would be half a million pairs.
    """
    # By key, then by place: numbers of 64 bits are sorted several times as fast as two columns.
    ordered = np.sort(band.astype(np.uint64) << _HALF | np.arange(len(band), dtype=np.uint64))
    keys, places = ordered >> _HALF, (ordered & np.uint64(0xFFFFFFFF)).astype(np.int64)
    is_first = np.ones(len(band), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    others = np.flatnonzero(~is_first & (keys != 0))
    first_of = np.maximum.accumulate(np.where(is_first, np.arange(len(band)), 0))[others]
    stars = np.stack((places[first_of], places[others]), axis=1)
    chains = np.stack((places[others - 1], places[others]), axis=1)
    # The second of its bucket has the first one before it.
    return np.concatenate((stars, chains[others - 1 != first_of]))


def _unjoined(groups: Places, pairs: Pairs) -> Pairs:
    """Those that no earlier band has brought together."""
    roots = _roots(groups, pairs)
    return pairs[roots[:, 0] != roots[:, 1]]


def _may_be_alike(sizes: Pairs, threshold: float) -> NDArray[np.bool_]:
    """Whether all shingles of the smaller text would be enough."""
    enough: NDArray[np.bool_] = sizes.min(axis=1) >= threshold * sizes.max(axis=1)
    return enough


def _jaccard(sets: ShingleSets, pairs: Pairs) -> NDArray[np.float64]:
    sizes = sets.sizes[pairs]
    both = np.concatenate([_numbered(sets, side) for side in pairs.T])
    # Two ascending runs, which the stable sort merges.
    both.sort(kind="stable")
    shared = both[1:][both[1:] == both[:-1]] >> _HALF
    common = np.bincount(shared.astype(np.int64), minlength=len(pairs))
    return common / np.maximum(sizes.sum(axis=1) - common, 1)


def _numbered(sets: ShingleSets, texts: Places) -> NDArray[np.uint64]:
    """The shingles of some texts, each behind the place of its text among these."""
    counts = sets.sizes[texts]
    begins = np.cumsum(counts) - counts
    at = np.arange(counts.sum()) + np.repeat(sets.starts[texts] - begins, counts)
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64), counts)
    return owners << _HALF | sets.hashes[at]


def _roots(groups: Places, places: NDArray[np.int64]) -> NDArray[np.int64]:
    roots = groups[places]
    while not np.array_equal(roots, further := groups[roots]):
        roots = further
    return roots


def _root(groups: Places, place: int) -> int:
    while groups[place] != place:
        groups[place] = groups[groups[place]]
        place = groups[place]
    return place
