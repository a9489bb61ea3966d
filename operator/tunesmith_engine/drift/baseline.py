"""What traffic has to be like in an hour of the week: from the reference, and then from itself.

The share of an event follows the day and the week by a few harmonics, fitted by ridge regression;
of the rarest words one share for all hours is kept. Both begin at the reference, which counts as so
many requests: the live traffic may differ from it by a little, and must not by much.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from math import pi
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_engine.drift.events import NUM_EVENTS, RUNS, SIGNAL_OF, Floats, Run

HOUR_S: Final = 3600
# Two harmonics of the day; weekends have a level and a day of their own.
_DAY_HARMONICS: Final = 2
NUM_TERMS: Final = 1 + 2 * _DAY_HARMONICS + 3
# Requests that the reference counts for: what differs from it by more than some standard errors of
# so many is not what the version was made for.
_REFERENCE_WEIGHT: Final = 400.0
# Requests that `no cycle at all` counts for: a whole day is not told by its first hours.
_HARMONIC_WEIGHT: Final = 200.0
# Of a signal that no reference has, anything is possible at first.
_UNKNOWN_WEIGHT: Final = 1.0
_UNKNOWN_SHARE: Final = 0.5
# Requests come in conversations and bursts, and tell less than as many independent ones.
_VARIANCE_INFLATION: Final = 2.0
# By how much a share may grow without being called another: of itself, and of all requests.
_TOLERANCE: Final = 0.005
_RELATIVE_TOLERANCE: Final = 0.1
# A topic moves many words at once, so that little of each has to do.
_WORD_TOLERANCE: Final = 0.001
# The rarest follow no hours here, and do in truth.
_RARE_RELATIVE_TOLERANCE: Final = 0.5
# Words of each signal that follow hours.
_FREQUENT_WORDS: Final = 512
# After so long what was seen counts half: seasons change traffic.
_HALF_LIFE_S: Final = 28 * 86_400.0
_LONGEST_GAP_S: Final = 10 * _HALF_LIFE_S

# Of a week from Monday on; 1970 began on a Thursday.
_THURSDAY: Final = 3
_FRIDAY: Final = 4

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each event: its share, the largest that is no drift, and the standard error of both."""

    shares: Floats
    largest: Floats
    errors: Floats


@dataclass(frozen=True)
class Baseline:
    """Sums over the requests of past hours, and of the one that runs.

    An hour is taken in when it is over, all at once: sums keep few digits when they are stored, and
    what a single block adds would be lost in them.

    Attributes:
        prior: (events,) shares in the reference; NaN where it has none.
        gram: (signals, terms, terms) sums of products of the terms.
        moments: (terms, frequent) sums of terms times shares.
        sums: (events,) sums of shares.
        weights: (signals,) requests.
        hour_sums: (events,) sums of shares in the hour that runs.
        hour_weights: (signals,) its requests.
        hour: hours since 1970.
    """

    prior: Floats
    gram: Floats = field(default_factory=lambda: np.zeros((len(RUNS), NUM_TERMS, NUM_TERMS)))
    moments: Floats = field(default_factory=lambda: np.zeros((NUM_TERMS, NUM_FREQUENT)))
    sums: Floats = field(default_factory=lambda: np.zeros(NUM_EVENTS))
    weights: Floats = field(default_factory=lambda: np.zeros(len(RUNS)))
    hour_sums: Floats = field(default_factory=lambda: np.zeros(NUM_EVENTS))
    hour_weights: Floats = field(default_factory=lambda: np.zeros(len(RUNS)))
    hour: int = 0

    def at(self, moment: datetime) -> "Baseline":
        """In the hour of that moment; an hour that was another is taken in.

        A clock that is set back goes on in the hour that runs.
        """
        hour = int(moment.timestamp()) // HOUR_S
        if hour <= self.hour:
            return self
        gap_s = min((hour - self.hour) * HOUR_S, _LONGEST_GAP_S) if self.hour else 0.0
        keep, terms = 0.5 ** (gap_s / _HALF_LIFE_S), _terms(self.hour)
        return replace(
            self,
            gram=keep * (self.gram + self.hour_weights[:, None, None] * np.outer(terms, terms)),
            moments=keep * (self.moments + np.outer(terms, self.hour_sums[self.frequent])),
            sums=keep * (self.sums + self.hour_sums),
            weights=keep * (self.weights + self.hour_weights),
            hour_sums=np.zeros(NUM_EVENTS),
            hour_weights=np.zeros(len(RUNS)),
            hour=hour,
        )

    def learn(self, vector: Floats, observed: Floats) -> "Baseline":
        """With one block more in the hour that runs."""
        learnt = replace(
            self,
            hour_sums=self.hour_sums + observed[SIGNAL_OF] * vector,
            hour_weights=self.hour_weights + observed,
        )
        # Of past hours alone, so they stay as they are.
        learnt.__dict__["limits"] = self.limits
        learnt.__dict__["frequent"] = self.frequent
        return learnt

    @cached_property
    def limits(self) -> "Limits":
        """What the traffic of this hour has to be like."""
        known = ~np.isnan(self.prior)
        prior = np.where(known, self.prior, _UNKNOWN_SHARE)
        strength = np.where(known, _REFERENCE_WEIGHT, _UNKNOWN_WEIGHT)
        weight = self.weights[SIGNAL_OF] + strength
        share, variance = (self.sums + strength * prior) / weight, 1.0 / weight
        share[self.frequent], variance[self.frequent] = self._harmonic(prior, strength)
        share = np.clip(share, 0.0, 1.0)
        relative = np.full(NUM_EVENTS, _RARE_RELATIVE_TOLERANCE)
        relative[self.frequent] = _RELATIVE_TOLERANCE
        spread = np.maximum(share * (1 - share), variance)
        return Limits(
            shares=share,
            largest=np.minimum(share * (1 + relative) + _ABSOLUTE, 1.0),
            errors=np.sqrt(_VARIANCE_INFLATION * variance * spread),
        )

    @cached_property
    def frequent(self) -> Places:
        """Places of the events that follow hours: bins, and the reference's commonest words."""
        return np.concatenate([_frequent(self.prior[run.start : run.stop], run) for run in RUNS])

    def _harmonic(self, prior: Floats, strength: Floats) -> tuple[Floats, Floats]:
        """Shares of the frequent events by ridge regression, and their variances."""
        ridge = np.full((len(RUNS), NUM_TERMS), _HARMONIC_WEIGHT)
        ridge[SIGNAL_OF, 0] = strength
        inverse = np.linalg.inv(self.gram + ridge[:, :, None] * np.eye(NUM_TERMS))
        terms, signals = _terms(self.hour), SIGNAL_OF[self.frequent]
        row = (inverse @ terms)[signals]
        share = np.einsum("ft,tf->f", row, self.moments)
        return share + row[:, 0] * (strength * prior)[self.frequent], row @ terms


def _terms(hour: int) -> Floats:
    """The harmonics of an hour of the week, in universal time."""
    is_weekend = float((hour // 24 + _THURSDAY) % 7 > _FRIDAY)
    angles = 2 * pi * (hour % 24) / 24 * np.arange(1, _DAY_HARMONICS + 1)
    weekend = is_weekend * np.array([1.0, np.cos(angles[0]), np.sin(angles[0])])
    return np.concatenate([[1.0], np.cos(angles), np.sin(angles), weekend])


def _frequent(prior: Floats, run: Run) -> Places:
    num = _num_frequent(run)
    largest = np.argsort(-np.nan_to_num(prior), kind="stable")[:num]
    return np.sort(largest) + run.start


def _num_frequent(run: Run) -> int:
    num = run.stop - run.start
    return min(num, _FREQUENT_WORDS) if run.signal.is_multiple else num


NUM_FREQUENT: Final = sum(map(_num_frequent, RUNS))
_ABSOLUTE: Final = np.array(
    [_WORD_TOLERANCE if r.signal.is_multiple else _TOLERANCE for r in RUNS]
)[SIGNAL_OF]
