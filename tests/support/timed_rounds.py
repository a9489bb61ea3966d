"""Rounds of one engine beside those of a slow one: tokens/s alone and together, and who pays."""

from typing import Final

SLOW: Final = [10.0, 11.0, 12.0]
FAST: Final = [14.0, 15.0, 16.0]

# Of one request alone, of several together, and whether that is surely faster than SLOW in both.
ROUNDS: Final = [
    (FAST, SLOW, True),
    (SLOW, FAST, True),
    (SLOW, SLOW, False),
    # One slow round: what else the machine did may explain the rest.
    ([11.5, *FAST], SLOW, False),
]
