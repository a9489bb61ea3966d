"""Evidence that traffic has changed, valid however long and often it is looked at.

An e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential
change detection", NEJSDS 2023): a bet at fair odds, or worse, that begins anew whenever its
capital has fallen below 1. The mean of several is one, too; that it reaches A takes A blocks at
least in the mean while nothing has changed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_engine.drift.baseline import Limits
from tunesmith_engine.drift.events import NUM_EVENTS, RUNS, SIGNAL_OF, STARTS, Flags, Floats

# Blocks of requests to a false alarm, at least, in the mean over all signals together: with 16
# requests a block, 1.6 million requests.
AVERAGE_RUN_LENGTH: Final = 100_000.0
# What a bettor has seen last counts half after so many requests: quick ones find large changes,
# slow ones small.
_HALF_LIVES: Final = np.array([64.0, 256.0])
# Part of the capital at stake.
_STAKES: Final = np.array([0.15, 0.4, 0.8])
NUM_HALF_LIVES: Final = len(_HALF_LIVES)
NUM_BETTORS: Final = NUM_HALF_LIVES * len(_STAKES)
# Standard errors that a share must have grown by before anybody bets on it.
_LEAST_ERRORS: Final = 1.0
# By how much more those are trusted that have grown by more errors.
_TRUST: Final = 2
# Nats that a bettor gives away with each block on which it does not bet.
_IDLE_LOSS: Final = 0.1
# Of the baseline, by which its shares may be too low.
_STANDARD_ERRORS: Final = 3.0
# Beyond it more evidence says nothing, and would have to be lost again when traffic comes back.
_MOST_OVER: Final = 3.0

# Each signal is one of so many detectors whose mean is the detector of all.
THRESHOLD_LOG_E: Final = float(np.log(AVERAGE_RUN_LENGTH) + np.log(len(RUNS)))


@dataclass(frozen=True, slots=True)
class Detectors:
    """One for each signal.

    Attributes:
        log_capital: (signals, bettors) of each bettor, 0 at least before its next bet.
        recent: (half-lives, events) sums of shares, what is older counting less.
        recent_weights: (half-lives, signals) requests, likewise.
    """

    log_capital: Floats
    recent: Floats
    recent_weights: Floats

    @classmethod
    def new(cls) -> "Detectors":
        """Before any request."""
        num = len(RUNS)
        return cls(
            log_capital=np.zeros((num, NUM_BETTORS)),
            recent=np.zeros((len(_HALF_LIVES), NUM_EVENTS)),
            recent_weights=np.zeros((len(_HALF_LIVES), num)),
        )

    @property
    def log_e(self) -> Floats:
        """(signals,) natural logarithm of the evidence of each."""
        mean: Floats = np.logaddexp.reduce(self.log_capital, axis=1) - np.log(NUM_BETTORS)
        return np.maximum(mean, 0.0)

    @property
    def has_gone(self) -> Flags:
        """(signals,) whether a change that there may have been is over, as most bettors see it.

        Those who stake little are slow to lose what they have won, and hold the mean up.
        """
        return np.median(self.log_capital, axis=1) < THRESHOLD_LOG_E / 2

    def bet(self, vector: Floats, observed: Floats, limits: Limits) -> "Detectors":
        """After a block in which each event had a share of the requests of its signal.

        One block is one outcome, so requests within it may depend on one another.
        """
        gains = np.stack([self._gain(number, vector, limits) for number in range(len(_HALF_LIVES))])
        factors = np.log(1.0 + np.nan_to_num(gains)[:, :, None] * _STAKES)
        # Who sees nothing to bet on gives a part away, so that evidence of a change that is over
        # goes. A supermartingale stays one.
        factors[np.isnan(gains)] = -_IDLE_LOSS
        growth = factors.transpose(1, 0, 2).reshape(len(RUNS), NUM_BETTORS)
        growth[observed == 0] = 0.0
        capital = np.maximum(self.log_capital, 0.0) + growth
        keep = 0.5 ** (observed[None, :] / _HALF_LIVES[:, None])
        each = observed[SIGNAL_OF] * vector
        return Detectors(
            log_capital=np.minimum(capital, THRESHOLD_LOG_E + _MOST_OVER),
            recent=self.recent * keep[:, SIGNAL_OF] + each,
            recent_weights=self.recent_weights * keep + observed,
        )

    def _gain(self, number: int, vector: Floats, limits: Limits) -> Floats:
        """(signals,) what the bettors of a half-life gain by each unit at stake; NaN: none bets.

        A signal's unit is spread over the events that had more than they may of late, the more the
        surer that is; and pays by the sum of their shares, over the largest that this sum may be.
        NB: only earlier blocks say how: a bet that has seen its outcome makes evidence of nothing.
        """
        weight = np.maximum(self.recent_weights[number], 1.0)[SIGNAL_OF]
        most = limits.largest + limits.errors
        error = np.sqrt((most * (1 - np.minimum(most, 1.0)) + 1 / weight) / weight)
        grown = self.recent[number] / weight - most
        trusted = np.maximum(grown / error - _LEAST_ERRORS, 0.0) ** _TRUST
        spread = np.maximum(grown, 0.0) * trusted / most
        paid = np.add.reduceat(spread * vector, STARTS)
        allowed = np.add.reduceat(spread * limits.largest, STARTS) + _errors(spread, limits)
        is_bet = allowed > 0
        return np.where(is_bet, paid / np.where(is_bet, allowed, 1.0) - 1.0, np.nan)

    def effects(self, shares: Floats) -> Floats:
        """(signals,) by how much of all requests the event that grew most has grown of late."""
        weight = self.recent_weights[-1]
        grown = self.recent[-1] / np.maximum(weight, 1.0)[SIGNAL_OF] - shares
        largest = np.maximum.reduceat(grown, STARTS)
        return np.where(weight > 0, np.clip(largest, 0.0, 1.0), 0.0)


def _errors(spread: Floats, limits: Limits) -> Floats:
    """(signals,) by how much the sum may be more, since shares are known by an estimate alone.

    Errors of many words are nearly independent, and mostly cancel. Those of bins, and of ranges of
    bins that lie in one another, need not.
    """
    errors = spread * limits.errors
    summed = np.add.reduceat(errors, STARTS)
    independent = np.sqrt(np.add.reduceat(errors**2, STARTS))
    return _STANDARD_ERRORS * np.where(_IS_MULTIPLE, independent, summed)


_IS_MULTIPLE: Final = np.array([run.signal.is_multiple for run in RUNS])
