"""The words of a text as numbers: hashed, or counted as repeated."""

import re
from collections.abc import Sequence
from typing import Final
from zlib import crc32

NUM_BUCKETS: Final = 64
# Of scripts without spaces, pairs of characters stand for words. NB: two classes without overlap
# and nothing behind a repetition, so that no text makes the search go back.
_UNSPACED: Final = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\W{_UNSPACED}]+")
# The first words tell what a text is about, and of how many the longest is looked for must not
# depend on how long the text is.
_NUM_OPENING: Final = 64
_GRAM: Final = 4
_LEAST_WORDS: Final = 8


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def hashed(word: str) -> int:
    """32 bits of a word, the same in every process.

    Lone halves of a surrogate pair, which JSON can hold, are hashed as they are.
    """
    return crc32(word.encode("utf-8", "surrogatepass"))


def bucket_of(words: Sequence[str]) -> int | None:
    """The bucket, 0 to 63, of the longest of the first words; None without words.

    One word stands for the text: the longest is seldom one of those that every text has, in any
    language that writes spaces. Of equally long ones it is that with the greatest hash, so that it
    does not depend on their order.
    """
    opening = words[:_NUM_OPENING]
    if not opening:
        return None
    longest = max(map(len, opening))
    return max(hashed(word) for word in opening if len(word) == longest) % NUM_BUCKETS


def repeated_share(words: Sequence[str]) -> float | None:
    """The share of groups of four words that were there before; None of less than eight words.

    It is seq-rep-4 of Welleck et al., "Neural Text Generation with Unlikelihood Training".
    """
    if len(words) < _LEAST_WORDS:
        return None
    num_groups = len(words) - _GRAM + 1
    return 1 - len(set(zip(words, words[1:], words[2:], words[3:], strict=False))) / num_groups
