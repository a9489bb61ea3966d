"""What each earlier task knows: its trials on one scale, and a guess for every other setting.

The guess is a kernel mean over the trials of the task (Nadaraya 1964, Watson 1964) that returns to
"nothing special" where the task has tried nothing near.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tunesmith_engine.search_memory.distances import Neighbour, task_key
from tunesmith_engine.search_memory.records import (
    HELD_OUT_LOSS,
    PastJob,
    PastTrial,
    Settings,
    Task,
    badness,
)
from tunesmith_engine.search_memory.space import Point, Space

# Of a range, over which trials speak for each other; and the weight of "nothing special" beside
# one trial. Of twelve pairs the one with the least regret after five trials on six of the tables of
# benchmarks/search_memory.py, which reports on the other six; most pairs were within its noise.
_BANDWIDTH: Final = 0.2
_PRIOR_WEIGHT: Final = 0.1
# Scores: 0 is the best trial of the task, 1 is its median, or anything worse.
_TYPICAL: Final = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """A trial of an earlier task: whose, with which settings, where in the space, and how good."""

    job: str
    settings: Settings
    point: Point
    value: float | None
    score: float


@dataclass(frozen=True)
class Source:
    """An earlier task: `distance` from the new one, and every trial of its jobs."""

    task: Task
    distance: float
    trials: Sequence[Known]
    space: Space

    @cached_property
    def jobs(self) -> tuple[str, ...]:
        """Names of the jobs, each once."""
        return tuple(dict.fromkeys(trial.job for trial in self.trials))

    @property
    def nearness(self) -> float:
        """The weight of its word beside others': 1 of the same task, a third at two units."""
        return 1.0 / (1.0 + self.distance)

    def predict(self, point: Point) -> float:
        """The score that the task would give a point: 0 as its best trial, 1 as its median."""
        total, weighted = _PRIOR_WEIGHT, _PRIOR_WEIGHT * _TYPICAL
        for trial in self.trials:
            apart = self.space.squared_distance(trial.point, point)
            weight = math.exp(-apart / (2 * _BANDWIDTH**2))
            total += weight
            weighted += weight * trial.score
        return weighted / total

    def best(self, num: int) -> list[Known]:
        """The best trials that were better than the median."""
        good = [trial for trial in self.trials if trial.score < _TYPICAL]
        return sorted(good, key=lambda trial: trial.score)[:num]

    def gain(self, score: float) -> float | None:
        """What a score is worth, as a part of the task's median value; None where it is none."""
        values = [trial.value for trial in self.trials if trial.value is not None]
        if not values:
            return None
        middle = statistics.median(values)
        best = min(values, key=lambda value: badness(value, direction=self.task.direction))
        # Of a single trial the base model is what it is better than.
        if middle == best and self.task.base_loss is not None and len(values) == 1:
            middle = self.task.base_loss
        return abs(middle - best) * (1.0 - score) / abs(middle) if middle else None


def sources_of(neighbours: Iterable[Neighbour], space: Space) -> list[Source]:
    """A source for each task among the neighbours, the nearest first."""
    tasks: dict[str, list[Neighbour]] = {}
    for neighbour in neighbours:
        tasks.setdefault(task_key(neighbour.record), []).append(neighbour)
    return [
        Source(
            task=jobs[0].record.task,
            distance=jobs[0].distance,
            trials=_known([each.record for each in jobs], space),
            space=space,
        )
        for jobs in tasks.values()
    ]


def _known(records: Sequence[PastJob], space: Space) -> list[Known]:
    trials = list(_trials(records))
    scores = _scores([trial for _, trial in trials], records[0].task)
    return [
        Known(
            job=record.job,
            settings=settings,
            point=space.point(settings),
            value=trial.value,
            score=score,
        )
        for (record, trial), score in zip(trials, scores, strict=True)
        for settings in (record.settings_of(trial),)
    ]


def _trials(records: Sequence[PastJob]) -> Iterator[tuple[PastJob, PastTrial]]:
    for record in records:
        for trial in record.trials:
            yield record, trial


def _scores(trials: Sequence[PastTrial], task: Task) -> list[float]:
    """Values of one task between its best, 0, and its median, 1."""
    bad = [badness(trial.value, direction=task.direction) for trial in trials]
    finite = [value for value in bad if math.isfinite(value)]
    if not finite:
        return [_TYPICAL] * len(bad)
    best = min(finite)
    # A median of all, for trials that diverged are worse than any; or of those with a value,
    # where most have diverged.
    middle = statistics.median_high(bad)
    middle = middle if math.isfinite(middle) else max(finite)
    return [_score(value, best=best, middle=middle, task=task) for value in bad]


def _score(value: float, *, best: float, middle: float, task: Task) -> float:
    if not math.isfinite(value) or _is_no_gain(value, task):
        return _TYPICAL
    if middle <= best:
        return 0.0 if value <= best else _TYPICAL
    return min((value - best) / (middle - best), _TYPICAL)


def _is_no_gain(value: float, task: Task) -> bool:
    """Whether the base model did as well; only of the measure that the base's loss is of."""
    is_loss = task.direction == "minimize" and task.measure == HELD_OUT_LOSS
    return is_loss and task.base_loss is not None and value >= task.base_loss


def discordance(source: Source, observed: Mapping[int, tuple[Point, float]]) -> float | None:
    """The part of the pairs of observed trials that the source ranks the other way round.

    None where it tells none of them apart. After RGPE's ranking loss (Feurer et al. 2018,
    arXiv 1802.02219), with which ensembles of earlier tasks are weighted.
    """
    seen = [(source.predict(point), bad) for point, bad in observed.values()]
    wrong = told = 0.0
    for place, (predicted, bad) in enumerate(seen):
        for other_predicted, other_bad in seen[:place]:
            if abs(predicted - other_predicted) < _TELLS_APART or bad == other_bad:
                continue
            told += 1
            wrong += (predicted < other_predicted) != (bad < other_bad)
    return wrong / told if told else None


# Scores nearer than this are the same guess.
_TELLS_APART: Final = 0.05
