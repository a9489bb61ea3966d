"""How far a share that was counted may be from the true one, by chance alone.

Exact bounds for a binomial share (Clopper & Pearson 1934, Biometrika 26, 404-413): the highest
share is the one under which so few or fewer would be counted with a probability of 1 - CONFIDENCE.
It is never too narrow, for few tokens and for shares near 1 either, where bounds from the normal
distribution are (Brown, Cai & DasGupta 2001, Statistical Science 16, 101-133). It takes tokens for
independent, which those of one answer are not quite.
"""

import math
from functools import cache
from typing import Final

# Of each bound by itself.
CONFIDENCE: Final = 0.95

_HALVINGS: Final = 50


@cache
def share_interval(num_hits: int, num_tries: int) -> tuple[float, float]:
    """The lowest and the highest true share that what was counted leaves credible."""
    return 1 - _highest(num_tries - num_hits, num_tries), _highest(num_hits, num_tries)


def _highest(num_hits: int, num_tries: int) -> float:
    if num_hits == num_tries:
        return 1.0
    low, high = num_hits / num_tries, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_credible = _at_most(num_hits, num_tries, share=middle) > 1 - CONFIDENCE
        low, high = (middle, high) if is_credible else (low, middle)
    return high


def _at_most(num_hits: int, num_tries: int, *, share: float) -> float:
    """The probability of `num_hits` or fewer, from the shorter of the two tails."""
    if num_hits < num_tries / 2:
        return _tail(num_hits, num_tries, share=share)
    return 1 - _tail(num_tries - num_hits - 1, num_tries, share=1 - share)


def _tail(num_hits: int, num_tries: int, *, share: float) -> float:
    hit, miss = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(_log_choices(num_tries, hits) + hits * hit + (num_tries - hits) * miss)
        for hits in range(num_hits + 1)
    )


def _log_choices(among: int, chosen: int) -> float:
    return math.lgamma(among + 1) - math.lgamma(chosen + 1) - math.lgamma(among - chosen + 1)
