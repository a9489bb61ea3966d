"""Texts to hashed shingles of words, many texts at a time.

The search for near-duplicates and that for contamination are made of it.

A word is a run of letters, digits and marks, in any case; punctuation and white space only part
words. A character of a script without spaces (Chinese, Japanese, Thai, …), and an emoji, is a word
of its own.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Codes = NDArray[np.uint8] | NDArray[np.uint32]

# Text is hashed in pieces of about so many characters, so that memory does not grow with the rows,
# and a piece stays in the processor's cache.
_BLOCK_CHARACTERS: Final = 1 << 17
_BASE: Final = 0x9E3779B97F4A7C15
_STEP: Final = np.uint64(0xD1342543DE82EF95)

_PARTS, _JOINS, _STANDS_ALONE = range(3)
# Where words have no spaces between them: kana, Chinese, Thai, Lao, Burmese, Khmer.
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
)
_BASIC_PLANE: Final = 0x10000


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of consecutive texts: those of text n are `hashes[starts[n]:starts[n + 1]]`."""

    hashes: Hashes
    starts: NDArray[np.int64]

    @property
    def owners(self) -> NDArray[np.int64]:
        """For each shingle the place of its text."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def shingles_of(texts: Sequence[str], *, width: int) -> Shingles:
    """Every run of `width` words of each text; of a text with fewer words, all of them as one."""
    words = _words_of(texts)
    num_words = np.diff(words.starts)
    counts = np.where(num_words == 0, 0, np.maximum(1, num_words - width + 1))
    starts = np.concatenate(([0], np.cumsum(counts)))
    owners = np.repeat(np.arange(len(texts)), counts)
    first = np.arange(starts[-1]) - starts[owners] + words.starts[owners]
    padded = np.concatenate((words.hashes, np.zeros(width, np.uint64)))
    hashes = np.zeros(len(first), np.uint64)
    for place in range(width):
        inside = first + place < words.starts[owners + 1]
        hashes = mixed(hashes * _STEP + np.where(inside, padded[first + place], np.uint64(0)))
    return Shingles(hashes, starts)


def blocks_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts that are hashed at a time, in order."""
    block: list[str] = []
    length = 0
    for text in texts:
        block.append(text)
        length += len(text) + 1
        if length >= _BLOCK_CHARACTERS:
            yield block
            block, length = [], 0
    if block:
        yield block


def mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _words_of(texts: Sequence[str]) -> Shingles:
    """The words of each text, hashed.

    A word's hash is a polynomial of its characters: a difference of running sums, divided by the
    base as often as characters stand before the word. All of it is modulo 2^64.
    """
    codes, begins = _codes_of(texts)
    classes = _class_of_codes(codes)
    firsts, ends = _word_bounds(classes)
    powers, inverses = _powers(len(codes))
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    hashes = mixed((sums[ends] - sums[firsts]) * inverses[firsts])
    return Shingles(hashes, np.searchsorted(firsts, begins).astype(np.int64))


def _codes_of(texts: Sequence[str]) -> tuple[Codes, NDArray[np.int64]]:
    """All characters, a line end behind each text; where each text begins, the last one ends."""
    joined = "\n".join([*texts, ""])
    folded = joined.casefold()
    if len(folded) != len(joined):
        # Some characters fold to several, so that texts begin elsewhere.
        texts = [text.casefold() for text in texts]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    if folded.isascii():
        codes: Codes = np.frombuffer(folded.encode("ascii"), np.uint8)
    else:
        # Half a surrogate pair is a character that JSON may hold.
        codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32)
    return codes, np.concatenate(([0], np.cumsum(lengths)))


def _word_bounds(classes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    before = np.concatenate(([_PARTS], classes[:-1]))
    after = np.concatenate((classes[1:], [_PARTS]))
    alone = classes == _STANDS_ALONE
    joins = classes == _JOINS
    firsts = np.flatnonzero(alone | (joins & (before != _JOINS)))
    ends = np.flatnonzero(alone | (joins & (after != _JOINS))) + 1
    return firsts, ends


@cache
def _tables() -> NDArray[np.uint8]:
    """What each character of the basic plane does to words."""
    table = np.full(_BASIC_PLANE, _PARTS, np.uint8)
    for code in range(_BASIC_PLANE):
        if unicodedata.category(chr(code))[0] in "LNM":
            table[code] = _JOINS
    for first, last in _UNSPACED:
        table[first : last + 1][table[first : last + 1] == _JOINS] = _STANDS_ALONE
    return table


def _class_of_codes(codes: Codes) -> NDArray[np.uint8]:
    if codes.dtype == np.uint8:
        return _tables()[codes]
    # Beyond the basic plane are rare ideographs and emoji.
    is_basic = codes < _BASIC_PLANE
    classes = _tables()[np.where(is_basic, codes, 0)]
    return np.where(is_basic, classes, np.uint8(_STANDS_ALONE)).astype(np.uint8)


def _powers(size: int) -> tuple[Hashes, Hashes]:
    """At least as many powers of the base, and of its inverse, as there are characters."""
    # Of a few sizes only, which are kept.
    size = max(_BLOCK_CHARACTERS, 1 << size.bit_length())
    return _powers_of(_BASE, size), _powers_of(pow(_BASE, -1, 1 << 64), size)


@cache
def _powers_of(base: int, size: int) -> Hashes:
    factors = np.full(size + 1, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
