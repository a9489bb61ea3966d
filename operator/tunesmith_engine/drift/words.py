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
# The first words tell what a text is about. Shorter ones are mostly those that every text has.
_NUM_OPENING: Final = 64
_LEAST_LETTERS: Final = 4
# Spread over all hashes (Knuth's multiplicative hashing), so that no two drawings often agree.
_GOLDEN: Final = 0x9E3779B1
_MASK: Final = 0xFFFFFFFF
_GRAM: Final = 4
_LEAST_WORDS: Final = 8


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def drawn(words: Sequence[str], *, num: int) -> list[int]:
    """The buckets, 0 to 63, of `num` words that are drawn from a text; none without words.

    Each drawing has a place of its own among all hashes, and takes the word that is nearest to it
    (MinHash: Broder, "On the resemblance and containment of documents", 1997). So it takes the same
    word from every text that has it and none that is nearer: a topic with a word of its own
    moves much of its traffic into one bucket of some drawing.
    """
    opening = words[:_NUM_OPENING]
    # Scripts without spaces have pairs of characters, and no others.
    long = [word for word in opening if len(word) >= _LEAST_LETTERS] or opening
    # Lone halves of a surrogate pair, which JSON can hold, are hashed as they are.
    hashes = [crc32(word.encode("utf-8", "surrogatepass")) for word in long]
    places = [_GOLDEN * number & _MASK for number in range(1, num + 1)] if hashes else []
    return [min(hashes, key=place.__xor__) % NUM_BUCKETS for place in places]


def repeated_share(words: Sequence[str]) -> float | None:
    """The share of groups of four words that were there before; None of less than eight words.

    It is seq-rep-4 of Welleck et al., "Neural Text Generation with Unlikelihood Training".
    """
    if len(words) < _LEAST_WORDS:
        return None
    num_groups = len(words) - _GRAM + 1
    return 1 - len(set(zip(words, words[1:], words[2:], words[3:], strict=False))) / num_groups
