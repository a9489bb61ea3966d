"""The script that most letters of a text are written in, by Unicode's blocks."""

from bisect import bisect_right
from collections import Counter
from typing import Final

SCRIPTS: Final = (
    "none",
    "latin",
    "latinWithMarks",
    "greek",
    "cyrillic",
    "hebrew",
    "arabic",
    "indic",
    "southeastAsian",
    "kana",
    "hangul",
    "han",
    "other",
)
# From which code point on which script is written, up to the next; roughly, since blocks of one
# script lie scattered. Emoji, signs and private use are none.
_BLOCKS: Final = (
    (0x0000, "none"),
    (0x00C0, "latinWithMarks"),
    (0x0250, "none"),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, "other"),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0700, "other"),
    (0x0750, "arabic"),
    (0x0780, "other"),
    (0x08A0, "arabic"),
    (0x0900, "indic"),
    (0x0E00, "southeastAsian"),
    (0x0F00, "other"),
    (0x1000, "southeastAsian"),
    (0x10A0, "other"),
    (0x1100, "hangul"),
    (0x1200, "other"),
    (0x1780, "southeastAsian"),
    (0x1800, "other"),
    (0x1E00, "latinWithMarks"),
    (0x1F00, "greek"),
    (0x2000, "none"),
    (0x3040, "kana"),
    (0x3100, "other"),
    (0x3130, "hangul"),
    (0x3190, "none"),
    (0x31F0, "kana"),
    (0x3200, "none"),
    (0x3400, "han"),
    (0x4DC0, "none"),
    (0x4E00, "han"),
    (0xA000, "other"),
    (0xAC00, "hangul"),
    (0xD7B0, "none"),
    (0xF900, "han"),
    (0xFB00, "none"),
    (0xFB1D, "hebrew"),
    (0xFB50, "arabic"),
    (0xFE00, "none"),
    (0xFE70, "arabic"),
    (0xFF00, "none"),
    (0xFF66, "kana"),
    (0xFFA0, "none"),
    (0x10000, "other"),
    (0x1D000, "none"),
    (0x20000, "han"),
    (0x30000, "none"),
)
_STARTS: Final = tuple(start for start, _ in _BLOCKS)
_NUMBERS: Final = tuple(SCRIPTS.index(script) for _, script in _BLOCKS)
_NONE: Final = SCRIPTS.index("none")
_LATIN: Final = SCRIPTS.index("latin")
_MARKED: Final = SCRIPTS.index("latinWithMarks")
_MOST_CHARACTERS: Final = 256
# Most languages of Latin letters have marks on a letter in twenty; English borrows one in hundreds.
_LEAST_MARKED: Final = 0.02


def script_of(text: str) -> int:
    """The index in `SCRIPTS`, looking at 256 characters at most, spread over the text."""
    sample = text[:: 1 + len(text) // _MOST_CHARACTERS]
    if sample.isascii():
        return _LATIN if any(map(str.isalpha, sample)) else _NONE
    counts = Counter(map(_script_of, sample))
    latin, marked = counts.pop(_LATIN, 0), counts.pop(_MARKED, 0)
    counts.pop(_NONE, None)
    is_marked = marked > _LEAST_MARKED * (latin + marked)
    counts[_MARKED if is_marked else _LATIN] = latin + marked
    script, most = counts.most_common(1)[0]
    return script if most else _NONE


def _script_of(character: str) -> int:
    if character.isascii():
        return _LATIN if character.isalpha() else _NONE
    return _NUMBERS[bisect_right(_STARTS, ord(character)) - 1]
