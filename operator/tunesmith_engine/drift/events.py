"""The shares that drift is looked for in: of requests in a bin, at or above it, below it.

Each signal has a run of events, all in one vector. A shift of traffic moves requests, so some share
grows: of a bin, or, where bins are ordered, of all from a bin on or up to it, which gathers a small
move of many bins.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_engine.drift.signals import SIGNALS, Signal
from tunesmith_engine.drift.sketches import Sketch

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Run:
    """The events of one signal in the vector of all."""

    signal: Signal
    start: int
    stop: int


def _num_events(signal: Signal) -> int:
    return signal.num_bins + (2 * (signal.num_bins - 1) if signal.is_ordered else 0)


def _runs() -> tuple[Run, ...]:
    stops = np.cumsum([_num_events(signal) for signal in SIGNALS]).tolist()
    return tuple(
        Run(signal, stop - _num_events(signal), stop)
        for signal, stop in zip(SIGNALS, stops, strict=True)
    )


RUNS: Final = _runs()
NUM_EVENTS: Final = RUNS[-1].stop
STARTS: Final = np.array([run.start for run in RUNS])
# The signal of each event, by its place among all.
SIGNAL_OF: Final = np.repeat(np.arange(len(RUNS)), [run.stop - run.start for run in RUNS])


def shares(sketch: Sketch) -> tuple[Floats, Floats]:
    """The share of each event, and the number of requests of each signal.

    A signal that was not observed has shares of 0 of no requests.
    """
    vector, observed = np.zeros(NUM_EVENTS), np.zeros(len(RUNS))
    for place, run in enumerate(RUNS):
        counts = sketch.signals.get(run.signal.name)
        if counts is None:
            continue
        bins = np.array(counts, dtype=np.float64)
        # Of several bins a request counts in each; those without any are in none.
        num = float(sketch.num_requests) if run.signal.is_multiple else float(bins.sum())
        if num <= 0:
            continue
        observed[place] = num
        vector[run.start : run.stop] = _events(bins / num, run.signal)
    return np.minimum(vector, 1.0), observed


def _events(bins: Floats, signal: Signal) -> Floats:
    if not signal.is_ordered:
        return bins
    below = np.cumsum(bins)[:-1]
    return np.concatenate([bins, below, 1.0 - below])
