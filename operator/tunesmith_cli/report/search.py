"""The section about a search: what was tried, what mattered, and what memory contributed.

Read from trials.json, which the stage writes as its trials end, so that a search that still runs is
shown as well. Importance is computed here (`importance.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tunesmith_api.finetunejob.search import MAXIMIZED
from tunesmith_cli.formats import counted, duration, number, percent
from tunesmith_cli.report.components import Chart, Table, table_of
from tunesmith_cli.report.importance import importances
from tunesmith_cli.report.job_data import JobData
from tunesmith_cli.report.search_charts import (
    Axis,
    Mark,
    history_chart,
    parallel_chart,
    scatter_chart,
    slice_chart,
)
from tunesmith_engine.stages.trial_records import ParameterValue, TrialRecord

_MOST_ROWS: Final = 200
_MOST_AXES: Final = 8
# Of positive numbers that differ by more than this, the order of magnitude is what matters.
_BY_MAGNITUDE: Final = 30.0


@dataclass(frozen=True)
class SearchSection:
    """The trials of a job's search; every part is empty without any that has a value."""

    job: JobData

    @cached_property
    def metrics(self) -> list[str]:
        """The objectives, the first of which matters most."""
        return list(dict.fromkeys(name for trial in self.job.trials for name in trial.objectives))

    @cached_property
    def valued(self) -> list[TrialRecord]:
        """Trials with a value of the first objective, in the order of their numbers."""
        first = self.metrics[:1]
        known = [trial for trial in self.job.trials if first and first[0] in trial.objectives]
        return sorted(known, key=lambda trial: trial.number)

    @cached_property
    def best(self) -> TrialRecord | None:
        """The completed trial with the best first objective."""
        done = [trial for trial in self.valued if trial.state == "completed"]
        return min(done, key=self._loss, default=None)

    @property
    def about(self) -> str:
        """In a sentence, how many trials there were and how they ended."""
        ends = [
            counted(num, "trial") + f" {word}"
            for word in ("completed", "pruned", "failed", "running")
            if (num := sum(trial.state == word for trial in self.job.trials))
        ]
        return f"{', '.join(ends)}." if ends else ""

    @cached_property
    def history(self) -> Chart | None:
        """Values by trial with the best so far."""
        if not self.valued:
            return None
        steps, so_far = list[tuple[float, float]](), math.inf
        for trial in self.valued:
            so_far = min(so_far, self._loss(trial))
            steps.append((float(trial.number), self._turned(so_far)))
        marks = [self._mark(trial, x=float(trial.number)) for trial in self.valued]
        caption = f"{self.metrics[0]} of each trial; the line is the best so far."
        return Chart(drawing=history_chart(marks, steps), caption=caption)

    @cached_property
    def parallel(self) -> Chart | None:
        """Parallel coordinates; the best tenth of the trials stands out."""
        fields = list(self._scales)[:_MOST_AXES]
        if not self.valued or not fields[1:]:
            return None
        ranked = sorted(self.valued, key=self._loss, reverse=True)
        # NB: the best last, for SVG paints in the order of the text.
        first_best = len(ranked) - max(1, len(ranked) // 10)
        ways = [
            (
                "tuned" if place >= first_best else "faint",
                [self._place(field, trial) for field in fields],
            )
            for place, trial in enumerate(ranked)
        ]
        axes = [self._scales[field].axis for field in fields]
        caption = "Each line is a trial; the best tenth stands out."
        return Chart(drawing=parallel_chart(axes, ways), caption=caption)

    @cached_property
    def importance(self) -> Table | None:
        """The part of each parameter in what the best trials have in common."""
        complete = [
            trial
            for trial in self.valued
            if all(field in trial.parameters for field in self._scales)
        ]
        places = {
            field: [scale(trial.parameters[field]) for trial in complete]
            for field, scale in self._scales.items()
        }
        parts = importances(places, [self._loss(trial) for trial in complete])
        rows = [(field, percent(part)) for field, part in parts.items()]
        return table_of("Importance by PED-ANOVA", ("parameter", "part"), rows, numeric=(1,))

    @cached_property
    def slices(self) -> list[Chart]:
        """Values over each parameter by itself."""
        return [
            Chart(
                drawing=slice_chart(
                    scale.axis,
                    [
                        self._mark(trial, x=place)
                        for trial in self.valued
                        if (place := self._place(field, trial)) is not None
                    ],
                ),
                caption=field,
            )
            for field, scale in list(self._scales.items())[:_MOST_AXES]
            if self.valued
        ]

    @cached_property
    def front(self) -> Chart | None:
        """The first two objectives against each other, with the Pareto front."""
        if not self.metrics[1:]:
            return None
        first, second = self.metrics[:2]
        both = [trial for trial in self.valued if second in trial.objectives]
        if not both:
            return None
        points = [(trial.objectives[second], trial.objectives[first]) for trial in both]
        marks = [self._mark(trial, x=x, y=y) for trial, (x, y) in zip(both, points, strict=True)]
        signs = tuple(-1.0 if name in MAXIMIZED else 1.0 for name in (second, first))
        drawn = scatter_chart(f"{first} by {second}", marks, front=_pareto(points, signs))
        caption = f"{first} upwards, {second} to the right; the line joins what no trial beats."
        return Chart(drawing=drawn, caption=caption)

    @cached_property
    def memory(self) -> Table | None:
        """What the settings of earlier jobs came to, beside the sampler's own."""
        groups: dict[str, list[TrialRecord]] = {}
        for trial in self.job.trials:
            if trial.has_ended:
                groups.setdefault(trial.origin.source_job or "the sampler", []).append(trial)
        if set(groups) <= {"the sampler"}:
            return None
        rows = [
            (source, str(len(trials)), *self._outcomes(trials)) for source, trials in groups.items()
        ]
        head = ("settings from", "trials", "best", "median")
        return table_of("What memory contributed", head, rows, numeric=(1, 2, 3))

    @cached_property
    def trials(self) -> Table | None:
        """A row for each trial, the best first."""
        ranked = sorted(self.job.trials, key=self._order)[:_MOST_ROWS]
        fields = list(self._scales)
        rows = [
            (
                str(trial.number),
                trial.state if not trial.reason else f"{trial.state}: {trial.reason}",
                *(
                    number(trial.objectives[m]) if m in trial.objectives else ""
                    for m in self.metrics
                ),
                *(_text(trial.parameters.get(field)) for field in fields),
                trial.origin.source_job or "",
                duration(trial.seconds),
            )
            for trial in ranked
        ]
        shorts = [field.rpartition(".")[2] for field in fields]
        head = ("trial", "state", *self.metrics, *shorts, "from job", "time")
        numeric = range(2, 2 + len(self.metrics) + len(fields))
        return table_of("Trials, the best first", head, rows, numeric=tuple(numeric))

    @cached_property
    def _scales(self) -> dict[str, "_FieldScale"]:
        fields = dict.fromkeys(field for trial in self.valued for field in trial.parameters)
        return {
            field: _FieldScale(
                field,
                [trial.parameters[field] for trial in self.valued if field in trial.parameters],
            )
            for field in fields
        }

    def _place(self, field: str, trial: TrialRecord) -> float | None:
        return self._scales[field](trial.parameters[field]) if field in trial.parameters else None

    def _turned(self, value: float) -> float:
        return -value if self.metrics[0] in MAXIMIZED else value

    def _loss(self, trial: TrialRecord) -> float:
        return self._turned(trial.objectives[self.metrics[0]])

    def _order(self, trial: TrialRecord) -> tuple[bool, float, int]:
        has_value = bool(self.metrics) and self.metrics[0] in trial.objectives
        is_done = has_value and trial.state == "completed"
        return (not is_done, self._loss(trial) if has_value else 0.0, trial.number)

    def _mark(self, trial: TrialRecord, *, x: float, y: float | None = None) -> Mark:
        value = trial.objectives[self.metrics[0]]
        role = "base" if trial.state != "completed" else "tuned"
        if trial.origin.kind == "memory":
            role = "compressed"
        if trial is self.best:
            role = "best"
        said = f"trial {trial.number}: {number(value)}"
        return Mark(x=x, y=value if y is None else y, role=role, said=said)

    def _outcomes(self, trials: Sequence[TrialRecord]) -> tuple[str, str]:
        known = sorted(
            self._loss(trial)
            for trial in trials
            if self.metrics and self.metrics[0] in trial.objectives
        )
        if not known:
            return "", ""
        middle = known[len(known) // 2]
        return number(self._turned(known[0])), number(self._turned(middle))


class _FieldScale:
    """Places of a parameter's values from 0 to 1: numbers by size or magnitude, words in order."""

    def __init__(self, field: str, values: Sequence[ParameterValue]) -> None:
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        self._words = sorted({_text(v) for v in values}) if len(numbers) < len(values) else []
        self._low, self._high = (min(numbers), max(numbers)) if not self._words else (0, 0)
        self._is_log = self._low > 0 and self._high / self._low >= _BY_MAGNITUDE
        ends = (self._words[0], self._words[-1]) if self._words else (self._low, self._high)
        self.axis = Axis(field.rpartition(".")[2], *map(_text, ends))

    def __call__(self, value: ParameterValue) -> float:
        if self._words:
            return self._words.index(_text(value)) / max(len(self._words) - 1, 1)
        low, high, here = (self._scaled(float(v)) for v in (self._low, self._high, value))
        return (here - low) / (high - low) if high > low else 0.5

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._is_log else value


def _pareto(
    points: Sequence[tuple[float, float]], signs: tuple[float, ...]
) -> list[tuple[float, float]]:
    """The points that no other is better than in one measure and as good in the other."""
    return sorted(_unbeaten(points, signs))


def _unbeaten(
    points: Sequence[tuple[float, float]], signs: tuple[float, ...]
) -> Iterator[tuple[float, float]]:
    for point in dict.fromkeys(points):
        mine = [sign * value for sign, value in zip(signs, point, strict=True)]
        others = ([s * v for s, v in zip(signs, other, strict=True)] for other in points)
        if not any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in others):
            yield point


def _text(value: ParameterValue | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) if isinstance(value, int | float) else value
