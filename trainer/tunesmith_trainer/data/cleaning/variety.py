"""Whether a text goes on and on, as language models do when they are lost."""

from collections.abc import Sequence
from typing import Final

# A text with fewer different pieces than this part of its length goes round in circles.
_LEAST_VARIETY: Final = 0.2


def is_varied(pieces: Sequence[object]) -> bool:
    """Whether words, or tokens, say something, and not the same over and over."""
    return len(pieces) > 1 and len(set(pieces)) >= _LEAST_VARIETY * len(pieces)
