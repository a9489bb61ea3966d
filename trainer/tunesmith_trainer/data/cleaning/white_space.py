"""White space that means nothing, outside of code blocks."""

import re
from typing import Final

_LINE_ENDS: Final = re.compile("\r\n?|\u2028|\u2029|\x85")
# NB: [^\S\n] would let the expression try each space of a long run anew.
_AT_LINE_END: Final = re.compile(r"(?<![^\S\n])[^\S\n]+$", re.MULTILINE)
_EMPTY_LINES: Final = re.compile(r"\n{3,}")
FENCE: Final = re.compile(r"^[ ]{0,3}(?:```|~~~)", re.MULTILINE)


def uniform_white_space(text: str) -> str:
    """Without what differs from row to row for no reason; code blocks keep all but line ends."""
    text = _LINE_ENDS.sub("\n", text)
    if FENCE.search(text):
        return text.strip()
    return _EMPTY_LINES.sub("\n\n", _AT_LINE_END.sub("", text)).strip()
