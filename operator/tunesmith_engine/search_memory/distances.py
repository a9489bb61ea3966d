"""Which earlier tasks are like a new one: a distance over standardised meta-features.

After Feurer et al. 2015 (Initializing Bayesian hyperparameter optimization via meta-learning, AAAI)
with features that are known of a fine-tuning job before it trains.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from tunesmith_api.base import ApiModel
from tunesmith_engine.search_memory.records import PastJob, Task

# Feature, whether its logarithm counts, and what is one unit at least: over a few records that are
# nearly alike, the standard deviation would take a hair for a gulf.
_FEATURES: Final[Mapping[str, tuple[bool, float]]] = {
    "parameters": (True, math.log(3.0)),
    "tokens": (True, math.log(3.0)),
    "rows": (True, math.log(3.0)),
    "mean_row_tokens": (True, math.log(2.0)),
    "base_loss": (False, 0.5),
}
# What another word adds. Adapters want ten times the rate of all weights, and DPO a hundredth of
# that of cross-entropy: their records say nothing about each other.
_WORDS: Final[Mapping[str, float]] = {"family": 0.5, "kind": 1.0}
_MUST_AGREE: Final = ("method", "objective", "measure", "direction")
# Standard deviations, beyond which a task is another one.
FARTHEST: Final = 3.0
NUM_NEAREST: Final = 8
# Jobs of one task, of which the latest count: runs of one manifest again and again tell no more.
_MOST_OF_A_TASK: Final = 8
# Standard deviations in a median absolute deviation of a normal distribution.
_OF_NORMAL: Final = 1.4826


class Neighbour(ApiModel):
    """An earlier job with its distance, in standard deviations of the features."""

    record: PastJob
    distance: float


def nearest(
    records: Sequence[PastJob], task: Task, *, num: int = NUM_NEAREST
) -> tuple[Neighbour, ...]:
    """The jobs of the `num` nearest tasks, the nearest first; none that is too far away."""
    units = _units([*(record.task for record in records), task])
    found = sorted(
        (
            Neighbour(record=record, distance=distance)
            for record in records
            if (distance := _distance(record.task, task, units)) <= FARTHEST
        ),
        # Of equally near ones the newest.
        key=lambda each: (each.distance, _descending(each.record.finished), each.record.uid),
    )
    jobs: dict[str, list[Neighbour]] = {}
    for each in found:
        jobs.setdefault(task_key(each.record), []).append(each)
    kept = [each for of_task in list(jobs.values())[:num] for each in of_task[:_MOST_OF_A_TASK]]
    return tuple(kept)


def task_key(record: PastJob) -> str:
    """What jobs of one task have in common; a job whose data is not known stands alone."""
    return record.task.digest or f"job {record.uid}"


def _distance(one: Task, other: Task, units: Mapping[str, float]) -> float:
    if any(getattr(one, name) != getattr(other, name) for name in _MUST_AGREE):
        return math.inf
    apart = [
        ((first - second) / units[name]) ** 2
        for name in _FEATURES
        if (first := _feature(one, name)) is not None
        and (second := _feature(other, name)) is not None
    ]
    # Without any number in common, a task is one unit away: neither near nor far.
    numbers = math.sqrt(sum(apart) / len(apart)) if apart else 1.0
    words = sum(far for name, far in _WORDS.items() if getattr(one, name) != getattr(other, name))
    return numbers + words


def _units(tasks: Sequence[Task]) -> dict[str, float]:
    units = {}
    for name, (_, least) in _FEATURES.items():
        known = [value for task in tasks if (value := _feature(task, name)) is not None]
        units[name] = max(_spread(known), least)
    return units


def _spread(values: Sequence[float]) -> float:
    """A standard deviation from the median absolute one, which a single far task cannot widen."""
    if not values:
        return 0.0
    middle = statistics.median(values)
    return _OF_NORMAL * statistics.median(abs(value - middle) for value in values)


def _feature(task: Task, name: str) -> float | None:
    value = getattr(task, name)
    if value is None:
        return None
    return math.log(value) if _FEATURES[name][0] else float(value)


def _descending(text: str) -> tuple[int, ...]:
    return tuple(-ord(char) for char in text)
