"""The words of a text as numbers: hashed, or counted as repeated."""

import re
from collections.abc import Sequence
from typing import Final
from zlib import crc32

# Enough that most words of a topic have a bucket that few other texts touch.
NUM_BUCKETS: Final = 1024
# Of scripts without spaces, pairs of characters stand for words. NB: two classes without overlap
# and nothing behind a repetition, so that no text makes the search go back.
_UNSPACED: Final = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\W{_UNSPACED}]+")
# The first words tell what a text is about. Shorter ones are mostly those that every text has.
_NUM_OPENING: Final = 64
_LEAST_LETTERS: Final = 4
_GRAM: Final = 4
_LEAST_WORDS: Final = 8


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def buckets_of(words: Sequence[str]) -> tuple[int, ...]:
    """The buckets, 0 to 1023, of the words of a text's opening, each once, in order.

    Whether a text has a word, and not how often: one that says it again and again weighs no more.
    """
    opening = words[:_NUM_OPENING]
    # Scripts without spaces have pairs of characters, and no others.
    long = [word for word in opening if len(word) >= _LEAST_LETTERS] or opening
    # Lone halves of a surrogate pair, which JSON can hold, are hashed as they are.
    hashes = {crc32(word.encode("utf-8", "surrogatepass")) % NUM_BUCKETS for word in long}
    return tuple(sorted(hashes))


def repeated_share(words: Sequence[str]) -> float | None:
    """The share of groups of four words that were there before; None of less than eight words.

    It is seq-rep-4 of Welleck et al., "Neural Text Generation with Unlikelihood Training".
    """
    if len(words) < _LEAST_WORDS:
        return None
    num_groups = len(words) - _GRAM + 1
    return 1 - len(set(zip(words, words[1:], words[2:], words[3:], strict=False))) / num_groups
