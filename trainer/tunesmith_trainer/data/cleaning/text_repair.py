"""Text that was damaged on its way: UTF-8 that was decoded as something else, odd characters.

Of mojibake only what can be nothing else is repaired: a sequence that is UTF-8 again, byte by byte,
and stands for punctuation, for a letter of Latin-1, for an emoji, or beside others of its kind. NB:
`CAFÉ»` and `voilà”` are such bytes as well, so that not every sequence that decodes is one.
"""

import re
import unicodedata
from typing import Final

# Windows-1252 leaves five bytes out, which browsers and databases take as Latin-1 does.
_BYTES: Final = {
    **{chr(byte): byte for byte in range(0x80, 0x100)},
    **{
        bytes([byte]).decode("cp1252"): byte
        for byte in range(0x80, 0xA0)
        if byte not in {0x81, 0x8D, 0x8F, 0x90, 0x9D}
    },
}


def _class(first: int, last: int) -> str:
    """The characters that bytes were read as, as a class of a regular expression."""
    return "[" + "".join(re.escape(c) for c, byte in _BYTES.items() if first <= byte <= last) + "]"


_NEXT: Final = _class(0x80, 0xBF)
_OF_TWO: Final = f"{_class(0xC2, 0xDF)}{_NEXT}"
_OF_THREE: Final = f"{_class(0xE0, 0xEF)}{_NEXT}{{2}}"
_OF_FOUR: Final = f"{_class(0xF0, 0xF4)}{_NEXT}{{3}}"
# Punctuation and symbols (E2), forms and the byte order mark (EF), letters of Latin-1 (C2, C3), and
# emoji are told by one; letters of other scripts by two in a row.
_ALONE: Final = f"{_class(0xE2, 0xE2)}{_NEXT}{{2}}|{_class(0xEF, 0xEF)}{_NEXT}{{2}}|{_OF_FOUR}|"
_LATIN: Final = f"{_class(0xC2, 0xC3)}{_NEXT}"
_MOJIBAKE: Final = re.compile(
    f"(?:{_OF_TWO}|{_OF_THREE}|{_OF_FOUR}){{2,}}|{_ALONE}{_LATIN}"
)  # fmt: skip
# What was encoded wrongly twice looks like mojibake again.
_MOST_ROUNDS: Final = 3

# No letter, mark or sign, and nothing that joins or directs letters: no text has them on purpose.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ufdd0-\ufdef]"
)


def without_mojibake(text: str) -> str:
    """The text as it was before it was encoded once too often."""
    if text.isascii():
        return text
    for _ in range(_MOST_ROUNDS):
        mended = _MOJIBAKE.sub(_decoded, text)
        if mended == text:
            break
        text = mended
    return text


def _decoded(match: re.Match[str]) -> str:
    try:
        return bytes(_BYTES[character] for character in match[0]).decode()
    except UnicodeDecodeError:
        return match[0]


def normalized(text: str) -> str:
    """The text in form NFC, without control characters."""
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", _CONTROLS.sub("", text))
