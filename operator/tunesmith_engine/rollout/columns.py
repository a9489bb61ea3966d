"""The samples of a rollout as arrays: what counts of them, in which window, for which unit.

`judge.py` makes them once of all samples; `evidence.py` reads them metric by metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_api.modeldeployment.limits import METRICS, Limits
from tunesmith_engine.rollout.eprocess import Flags, Floats, Indices
from tunesmith_engine.rollout.samples import Arm, Sample

_FIELDS: Final = tuple(dict.fromkeys(kind.field for kind in METRICS.values()))
# What a fixed prompt shows; whether it failed is known of every client's request.
_OF_PROMPTS: Final = "quality_loss"
_OF_REQUESTS: Final = "error"


@dataclass(frozen=True, slots=True)
class Columns:
    """Requests in columns; nan where a field was not observed.

    `cluster` numbers the conversation or key of each request, -1 for those that have none. Rows of
    fixed prompts have nothing but a quality loss.
    """

    time_s: Floats
    is_candidate: Flags
    cluster: Indices
    fields: Mapping[str, Floats]


def columns_of(samples: Sequence[Sample]) -> Columns:
    """The samples as columns, in an order that does not depend on the one they come in."""
    samples = _once(samples)
    fields = {
        name: np.array([_number_of(sample, name) for sample in samples], dtype=float)
        for name in _FIELDS
    }
    time_s = np.array([sample.time_seconds for sample in samples], dtype=float)
    is_candidate = np.array([sample.arm is Arm.CANDIDATE for sample in samples], dtype=bool)
    names = np.array([sample.cluster or "" for sample in samples], dtype=str)
    known, codes = np.unique(names, return_inverse=True)
    cluster = np.where(names == "", -1, codes) if len(known) else codes
    # Sums of floats depend on their order in the last digit; one order for the same set of samples
    # makes verdicts equal to the bit.
    order = np.lexsort((*fields.values(), cluster, is_candidate, time_s))
    return Columns(
        time_s=time_s[order],
        is_candidate=is_candidate[order],
        cluster=cluster[order].astype(np.int64),
        fields={name: column[order] for name, column in fields.items()},
    )


def _once(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, of each fixed prompt the first alone.

    NB: answers to the same prompt are the same: another one is no more evidence.
    """
    seen: set[str] = set()
    kept = []
    for sample in samples:
        if sample.fixed_prompt is None or sample.fixed_prompt not in seen:
            kept.append(sample)
        if sample.fixed_prompt is not None:
            seen.add(sample.fixed_prompt)
    return kept


def _number_of(sample: Sample, name: str) -> float:
    if sample.fixed_prompt is not None and name != _OF_PROMPTS:
        return np.nan
    value = getattr(sample, name)
    if name == "incomplete":
        return float(value is not None)
    return np.nan if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Counted:
    """The requests that count: after the warm-up, in windows that are over, before the deadline.

    `unit` numbers what is independent, and `window` is where the first request of the unit arrived.
    """

    is_candidate: Flags
    window: Indices
    unit: Indices
    fields: Mapping[str, Floats]
    num_windows: int

    @property
    def is_prompt(self) -> Flags:
        """Which rows are of fixed prompts, and no client's."""
        is_prompt: Flags = np.isnan(self.fields[_OF_REQUESTS])
        return is_prompt

    def prompts_by_window(self) -> Indices:
        """How many fixed prompts have counted at the end of each window."""
        window = self.window[self.is_prompt]
        return np.cumsum(np.bincount(window, minlength=self.num_windows)).astype(np.int64)

    def requests_by_window(self, *, candidate: bool) -> Indices:
        """How many requests of an arm have counted at the end of each window."""
        window = self.window[(self.is_candidate == candidate) & ~self.is_prompt]
        return np.cumsum(np.bincount(window, minlength=self.num_windows)).astype(np.int64)


def count(columns: Columns, limits: Limits, *, now_s: float) -> Counted:
    """What counts at `now_s`."""
    # A cold cache makes no answer worse.
    is_prompt = np.isnan(columns.fields[_OF_REQUESTS])
    time_of_s = np.where(
        is_prompt, np.maximum(columns.time_s, limits.warmup_seconds), columns.time_s
    )
    is_warm = time_of_s >= limits.warmup_seconds
    time_s, is_candidate = time_of_s[is_warm], columns.is_candidate[is_warm]
    start_s, unit = time_s, np.arange(len(time_s))
    if limits.unit == "cluster":
        start_s, unit = _clusters(time_s, is_candidate, columns.cluster[is_warm])
    window = np.floor((start_s - limits.warmup_seconds) / limits.window_seconds).astype(np.int64)
    # NB: a later request of a conversation depends on its earlier ones, and its arm was drawn with
    # the first. So a cluster is one observation: what comes after its time of watching is left out.
    is_watched = time_s - start_s <= limits.cluster_window_seconds
    num_windows = windows_over(limits, now_s=now_s)
    counts = is_watched & (window < num_windows)
    return Counted(
        is_candidate=is_candidate[counts],
        window=window[counts],
        unit=unit[counts],
        fields={name: column[is_warm][counts] for name, column in columns.fields.items()},
        num_windows=num_windows,
    )


def windows_over(limits: Limits, *, now_s: float) -> int:
    """How many windows are over at `now_s`, their clusters' time of watching included."""
    watched_s = limits.cluster_window_seconds if limits.unit == "cluster" else 0.0
    judged_s = min(now_s, limits.deadline_seconds) - watched_s - limits.warmup_seconds
    # A clock that reads 70.0 may hold 69.99999: a billionth of a window is none.
    return max(0, int(np.floor(judged_s / limits.window_seconds + 1e-9)))


def window_end_s(limits: Limits, window: int) -> float:
    """When the judge can look at a window, in seconds since the rollout began."""
    watched_s = limits.cluster_window_seconds if limits.unit == "cluster" else 0.0
    return limits.warmup_seconds + (window + 1) * limits.window_seconds + watched_s


def _clusters(time_s: Floats, is_candidate: Flags, cluster: Indices) -> tuple[Floats, Indices]:
    """When the unit of each request began, and its number; without a cluster each is its own."""
    alone = -1 - np.arange(len(cluster))
    # A cluster that was answered by both arms was not routed stickily; it is one unit in each.
    key = np.where(cluster < 0, alone, 2 * cluster + is_candidate)
    _, unit = np.unique(key, return_inverse=True)
    start_s = np.full(unit.max(initial=-1) + 1, np.inf)
    np.minimum.at(start_s, unit, time_s)
    return start_s[unit], unit.astype(np.int64)
