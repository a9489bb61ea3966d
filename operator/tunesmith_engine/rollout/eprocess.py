"""Evidence that grows with each window and may be looked at after any: e-processes by betting.

An e-process is the capital of somebody who bets against a null hypothesis at odds that are fair or
worse under it. By Ville's inequality (1939) the chance that it ever reaches 1/alpha is at most
alpha, whenever and however often one looks. `evidence.py` calls this for each metric.

Both functions mix (average) a few fixed sizes of bets, for the effect is not known beforehand;
Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86
(2024), is the source of bets on bounded values, and of bounding each away from bankruptcy.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

# Effects that are bet on, in standard deviations of one observation. Twice as large each, so that
# every effect from 0.04 to 1.1 has a near one; the mixture costs at most log 5 = 1.6 nats.
BETS: Final = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
# No single observation takes more than this part of the capital (WSR 2024 truncate likewise).
_LARGEST_STAKE: Final = 0.9
# The guess of the mean that begins a rollout counts as so many observations.
_PRIOR_OBSERVATIONS: Final = 20.0
# Below it a variance is that of an event nobody has seen yet; the bets' sizes divide by its root.
_SMALLEST_VARIANCE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Units:
    """What is bet on: values in [0, 1], each `times` times, in the blocks 0 … num_blocks-1.

    Equal values of one arm and block stand once, for a bet does the same to each of them.
    """

    values: Floats
    is_candidate: Flags
    block: Indices
    times: Floats
    num_blocks: int

    def per_block(self, amount: Floats | Flags | float = 1.0) -> Floats:
        """The sum of an amount over the units of each block."""
        weights = self.times * amount
        return np.bincount(self.block, weights, minlength=self.num_blocks).astype(np.float64)


def two_sample_log_e(
    units: Units, *, shift: float, sign: Literal[1, -1], prior_mean: float
) -> Floats:
    """The log capital after each block against: candidate's mean <= stable's + shift (`sign` 1).

    With `sign` -1 against: candidate's mean >= stable's + shift. Every block holds both arms;
    neither arm's mean is known, and both may drift from block to block as long as the null holds
    within each.

    With centres c - s = shift and stakes such that n_c l_c = n_s l_s = L, all fixed before the
    block, the capital is multiplied by prod(1 + l_c (y - c)) over the candidate's and by
    prod(1 - l_s (y - s)) over stable's. By 1 + x <= exp(x) its expected factor is at most
    exp(L (E y_c - E y_s - shift)) <= 1. For two shares and no shift these are the factors of
    Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow
    for optional stopping", JSPI 230 (2024); the bound takes in shifts and bounded values.
    """
    is_candidate, block = units.is_candidate, units.block
    num = units.per_block()
    num_candidate = units.per_block(is_candidate)
    num_stable = num - num_candidate
    # NB: only earlier blocks may enter the centres and stakes of a block: a bet that has seen its
    # outcome makes capital from nothing.
    pooled = _before(units.per_block(units.values - shift * is_candidate))
    guess = (_PRIOR_OBSERVATIONS * prior_mean + pooled) / (_PRIOR_OBSERVATIONS + _before(num))
    stable_centre = np.clip(guess, max(0.0, -shift), min(1.0, 1.0 - shift))
    candidate_centre = stable_centre + shift
    variance = (
        candidate_centre * (1 - candidate_centre) * num_stable
        + stable_centre * (1 - stable_centre) * num_candidate
    ) / num
    size = BETS / np.sqrt(np.maximum(variance, _SMALLEST_VARIANCE))[:, None]
    candidate_stake = size * (num_stable / num)[:, None]
    stable_stake = size * (num_candidate / num)[:, None]
    # What the worst outcome would take of each: a 0 of the candidate's and a 1 of stable's, or the
    # other way round. Both stakes shrink together, for their proportion carries the proof.
    worst = np.maximum(
        candidate_stake * (candidate_centre if sign == 1 else 1 - candidate_centre)[:, None],
        stable_stake * (1 - stable_centre if sign == 1 else stable_centre)[:, None],
    )
    scale = 1 / np.maximum(1.0, worst / _LARGEST_STAKE)
    stake = np.where(
        is_candidate[:, None], (candidate_stake * scale)[block], -(stable_stake * scale)[block]
    )
    centre = np.where(is_candidate, candidate_centre[block], stable_centre[block])
    return _log_capital(sign * stake * (units.values - centre)[:, None], units)


def one_sample_log_e(units: Units, *, mean: float, sign: Literal[1, -1]) -> Floats:
    """The log capital after each block against: the mean is at most `mean` (`sign` 1).

    With `sign` -1 against: it is at least that; `mean` lies strictly between 0 and 1. The stakes
    follow the variance of earlier blocks (the predictable plug-in of WSR 2024).
    """
    squares = _before(units.per_block((units.values - mean) ** 2))
    # A quarter is the largest variance there is: the first bets are small ones.
    variance = (0.25 + squares) / (1.0 + _before(units.per_block()))
    stake = BETS / np.sqrt(np.maximum(variance, _SMALLEST_VARIANCE))[:, None]
    stake = np.minimum(stake, _LARGEST_STAKE / (mean if sign == 1 else 1 - mean))
    return _log_capital(sign * stake[units.block] * (units.values - mean)[:, None], units)


def _before(of_block: Floats) -> Floats:
    """Sums over the blocks before each."""
    return np.cumsum(of_block) - of_block


def _log_capital(gain: Floats, units: Units) -> Floats:
    """The log of the mean capital over the sizes of bets, after each block."""
    growth = np.stack([units.per_block(column) for column in np.log1p(gain).T])
    mixed: Floats = np.logaddexp.reduce(np.cumsum(growth, axis=1), axis=0) - np.log(len(BETS))
    return mixed
