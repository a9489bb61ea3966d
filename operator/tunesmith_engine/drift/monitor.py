"""The traffic of one version against its reference: a state that goes on with each block.

Pure: whoever reads the replicas keeps the state. It does not grow, holds shares of bins alone, and
is below 64 KiB as JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from tunesmith_api.base import ApiModel
from tunesmith_engine.drift.baseline import NUM_FREQUENT, NUM_TERMS, Baseline, Places
from tunesmith_engine.drift.e_detector import (
    NUM_BETTORS,
    NUM_HALF_LIVES,
    THRESHOLD_LOG_E,
    Detectors,
)
from tunesmith_engine.drift.events import NUM_EVENTS, RUNS, SIGNAL_OF, Floats, shares
from tunesmith_engine.drift.sketches import Reference, Sketch
from tunesmith_engine.drift.stored_arrays import Form, pack, unpack

Reason = Literal["NoReference", "NoTraffic"]
Block = tuple[datetime, Sketch]

# Evidence from which on nothing is learnt: drift must not become what is usual.
_SUSPICION_LOG_E: Final = THRESHOLD_LOG_E / 2
# Sums over requests are stored as shares of them, in half precision: they are forgotten soon, or
# added to by the hour.
_FORMS: Final = {
    "gram": Form((len(RUNS), NUM_TERMS, NUM_TERMS), "<f4"),
    "moments": Form((NUM_TERMS, NUM_FREQUENT), "<f2"),
    "sums": Form((NUM_EVENTS,), "<f2"),
    "weights": Form((len(RUNS),), "<f4"),
    "hour_sums": Form((NUM_EVENTS,), "<f2"),
    "hour_weights": Form((len(RUNS),), "<f4"),
    "log_capital": Form((len(RUNS), NUM_BETTORS), "<f4"),
    "recent": Form((NUM_HALF_LIVES, NUM_EVENTS), "<f2"),
    "recent_weights": Form((NUM_HALF_LIVES, len(RUNS)), "<f4"),
}
_NAMES: Final = frozenset(run.signal.name for run in RUNS)


class DriftState(ApiModel):
    """All that is remembered.

    Attributes:
        since: the time of the first block.
        hour: hours since 1970 that the baseline is in.
        drifted: signals that have drifted and not come back, by name.
        arrays: everything else, packed; empty before the first block.
    """

    version: Literal[1] = 1
    since: datetime | None = None
    num_requests: Annotated[int, Field(ge=0)] = 0
    hour: Annotated[int, Field(ge=0)] = 0
    drifted: tuple[str, ...] = ()
    arrays: Annotated[str, Field(max_length=1 << 17)] = ""

    @field_validator("drifted")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in _NAMES)


@dataclass(frozen=True, slots=True)
class SignalReport:
    """One signal: its evidence, and by how much of all requests it has moved, 0 to 1."""

    signal: str
    log_e: float
    effect: float


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What the state shows; `reason` says why nothing can be said."""

    threshold_log_e: float
    since: datetime | None
    num_requests: int
    signals: tuple[SignalReport, ...] = ()
    drifted: tuple[str, ...] = ()
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class _Watch:
    """A state, unpacked."""

    state: DriftState
    baseline: Baseline
    detectors: Detectors

    @classmethod
    def of(cls, state: DriftState, reference: Reference) -> Self:
        prior = _prior(reference)
        if not state.arrays:
            return cls(state, Baseline(prior), Detectors.new())
        try:
            stored = unpack(state.arrays, _FORMS)
        except ValueError:
            # Of another release: it begins anew.
            return cls(DriftState(), Baseline(prior), Detectors.new())
        scales = _scales(Baseline(prior).frequent, stored)
        stored |= {name: stored[name] * scale for name, scale in scales.items()}
        detectors = Detectors(*(stored.pop(name) for name in Detectors.__slots__))
        return cls(state, Baseline(prior, **stored, hour=state.hour), detectors)

    def after(self, block: Block) -> "_Watch":
        at, sketch = block
        vector, observed = shares(sketch)
        baseline = self.baseline.at(at)
        detectors = self.detectors.bet(vector, observed, baseline.limits)
        if detectors.log_e.max() < _SUSPICION_LOG_E:
            baseline = baseline.learn(vector, observed)
        before = self.state
        update: dict[str, Any] = {
            "since": before.since or at,
            "num_requests": before.num_requests + sketch.num_requests,
            "hour": baseline.hour,
            "drifted": _drifted(before.drifted, detectors),
        }
        return _Watch(before.model_copy(update=update), baseline, detectors)

    def packed(self) -> DriftState:
        arrays: dict[str, Floats] = {
            name: getattr(self.detectors if name in Detectors.__slots__ else self.baseline, name)
            for name in _FORMS
        }
        scales = _scales(self.baseline.frequent, arrays)
        arrays |= {name: arrays[name] / np.maximum(scale, 1e-9) for name, scale in scales.items()}
        return self.state.model_copy(update={"arrays": pack(arrays, _FORMS)})


def observe(
    state: DriftState, blocks: Iterable[Block], *, reference: Reference | None
) -> DriftState:
    """The state after blocks in order of time; without a reference nothing is concluded."""
    if reference is None:
        return state
    watch = _Watch.of(state, reference)
    for block in blocks:
        if block[1].num_requests:
            watch = watch.after(block)
    return watch.packed()


def report(state: DriftState, *, reference: Reference | None) -> DriftReport:
    """What the state shows."""
    if reference is None:
        return DriftReport(THRESHOLD_LOG_E, None, 0, reason="NoReference")
    if not state.arrays:
        return DriftReport(THRESHOLD_LOG_E, None, 0, reason="NoTraffic")
    watch = _Watch.of(state, reference)
    effects = watch.detectors.effects(watch.baseline.limits.shares)
    rows = zip(RUNS, watch.detectors.log_e.tolist(), effects.tolist(), strict=True)
    return DriftReport(
        threshold_log_e=THRESHOLD_LOG_E,
        since=watch.state.since,
        num_requests=watch.state.num_requests,
        signals=tuple(SignalReport(run.signal.name, log_e, effect) for run, log_e, effect in rows),
        drifted=watch.state.drifted,
    )


def _scales(frequent: Places, arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """The requests that each sum is over."""
    return {
        "moments": arrays["weights"][SIGNAL_OF[frequent]],
        "sums": arrays["weights"][SIGNAL_OF],
        "hour_sums": arrays["hour_weights"][SIGNAL_OF],
        "recent": arrays["recent_weights"][:, SIGNAL_OF],
    }


def _drifted(before: tuple[str, ...], detectors: Detectors) -> tuple[str, ...]:
    log_e, has_gone = detectors.log_e.tolist(), detectors.has_gone.tolist()
    rows = zip(RUNS, log_e, has_gone, strict=True)
    return tuple(
        run.signal.name
        for run, evidence, is_over in rows
        if evidence >= THRESHOLD_LOG_E or (run.signal.name in before and not is_over)
    )


def _prior(reference: Reference) -> Floats:
    """The shares of the events in the rows; NaN of signals that rows do not have."""
    # Both splits: they are drawn from the same rows, and more of them tell more.
    vector, observed = shares(reference.training.merge(reference.validation))
    for run, num in zip(RUNS, observed.tolist(), strict=True):
        if not num or not run.signal.in_reference:
            vector[run.start : run.stop] = np.nan
    return vector
