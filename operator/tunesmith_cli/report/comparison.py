"""Two jobs side by side: the settings that differ, curves, evaluation, size and speed.

Pure: from two `JobData` to rows that `commands/compare.py` writes to a terminal and
`comparison_page.py` to a page. Differences are the second job's less the first's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import duration, number, percent, size
from tunesmith_cli.metrics import direction_of, interval_of, label_of, latest_in_order
from tunesmith_cli.report.artifacts import RowScores
from tunesmith_cli.report.charts import Line, Point
from tunesmith_cli.report.job_data import JobData
from tunesmith_cli.report.paired_scores import Difference, paired_difference, signed
from tunesmith_cli.report.provenance import Provenance

# Kind of the points in the curve, and its heading.
CURVES: Final = (
    ("heldOut", "Held-out loss"),
    ("general", "General loss"),
    ("train", "Training loss"),
)
# A curve of thousands of steps is drawn by so many means of neighbours.
_MOST_POINTS: Final = 60
# What a name or a place is, and says nothing about how the model was made.
_NAMES: Final = frozenset({"output.model", "output.version", "output.uri"})


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure of both jobs; a side is None where the job has not measured it.

    `named` is one of them, for its names.
    """

    named: EvaluationResult
    first: EvaluationResult | None
    second: EvaluationResult | None
    difference: Difference | None

    @property
    def label(self) -> str:
        return label_of(self.named)

    @property
    def verdict(self) -> str:
        """What the difference shows, in words."""
        if self.first is None or self.second is None:
            return ""
        if self.difference is None:
            return "not paired"
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return "too few rows to tell"
        if low <= 0 <= high:
            return "no difference beyond chance"
        direction = direction_of(self.named)
        if not direction:
            return "differs"
        return "better" if (high < 0) == (direction == "lower is better") else "worse"

    @property
    def plain_difference(self) -> float | None:
        """Of the two values as they are told, paired or not."""
        if self.first is None or self.second is None:
            return None
        return self.second.value - self.first.value

    @property
    def cells(self) -> tuple[str, ...]:
        """Measure, split, both values with their intervals, difference, its interval, verdict."""
        value = self.difference.value if self.difference else self.plain_difference
        return (
            self.label,
            self.named.split,
            *_value_cells(self.first),
            *_value_cells(self.second),
            "" if value is None else signed(value),
            self.difference.interval if self.difference else "",
            self.verdict,
        )


MEASURE_HEAD: Final = (
    "measure", "model", "{first}", "interval", "{second}", "interval", "difference",
    "paired interval", "shows",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What differs between two jobs, as far as either has come."""

    first: JobData
    second: JobData

    @property
    def names(self) -> tuple[str, str]:
        return self.first.name, self.second.name

    @property
    def measure_head(self) -> tuple[str, ...]:
        first, second = self.names
        return tuple(name.format(first=first, second=second) for name in MEASURE_HEAD)

    @cached_property
    def settings(self) -> list[tuple[str, str, str]]:
        """Path and both values of every setting that differs, data and base model first."""
        inputs = [
            ("digest of the data", self.first.prepare.data_digest, self.second.prepare.data_digest),
            ("digest of the base", self.first.prepare.model_digest,
             self.second.prepare.model_digest),
        ]  # fmt: skip
        rows = [
            (name, _short(before), _short(after))
            for name, before, after in inputs
            if before and after and before != after
        ]
        first, second = _settings(self.first), _settings(self.second)
        for path in dict.fromkeys((*first, *second)):
            before, after = first.get(path, ""), second.get(path, "")
            if before != after and path not in _NAMES:
                rows.append((path, before, after))
        return rows

    @cached_property
    def measures(self) -> list[MeasureRow]:
        """Every measure of either job, as a report orders them."""
        sides = [
            {
                (one.suite, one.metric, one.split): one
                for one in _results(job)
                # The loss, raised: it can show nothing that the loss does not.
                if one.metric != "perplexity"
            }
            for job in (self.first, self.second)
        ]
        both = latest_in_order([*sides[0].values(), *sides[1].values()])
        rows = []
        for named in both:
            key = named.suite, named.metric, named.split
            first, second = (side.get(key) for side in sides)
            rows.append(MeasureRow(named, first, second, self._paired(named)))
        return rows

    @cached_property
    def notes(self) -> list[str]:
        """What the differences can say, and what they cannot."""
        notes = []
        if any(row.verdict == "not paired" for row in self.measures):
            notes.append(
                "Not paired: the measure has no scores by row, or the jobs share no row there; "
                "then chance may be any part of the difference."
            )
        notes += [
            f"{row.label}: paired over the {row.difference.num_rows:,} rows that both jobs have, "
            f"of {row.named.n:,}."
            for row in self.measures
            if row.difference and row.difference.num_rows < row.named.n
        ]
        return list(dict.fromkeys(notes))

    @cached_property
    def costs(self) -> list[tuple[str, str, str]]:
        """Size, speed and time of both; what neither has is left out."""
        sides = [dict(_costs(job)) for job in (self.first, self.second)]
        names = dict.fromkeys((*sides[0], *sides[1]))
        return [(name, sides[0].get(name, ""), sides[1].get(name, "")) for name in names]

    def lines(self, kind: str) -> list[Line]:
        """The curve of that kind of either job that has one."""
        drawn = (
            Line(job.name, role, _points(job, kind))
            for job, role in ((self.first, "tuned"), (self.second, "compressed"))
        )
        return [line for line in drawn if line.points]

    def _paired(self, named: EvaluationResult) -> Difference | None:
        # Scores by row are of the tuned model alone.
        if named.split != "tuned":
            return None
        first, second = (_scores(job, named) for job in (self.first, self.second))
        return paired_difference(first, second) if first and second else None


def _scores(job: JobData, named: EvaluationResult) -> RowScores | None:
    for scores in job.row_scores:
        lengths = {len(scores.rows), len(scores.weights), len(scores.tuned)}
        if (scores.suite, scores.metric) == (named.suite, named.metric) and len(lengths) == 1:
            return scores
    return None


def _results(job: JobData) -> list[EvaluationResult]:
    """From the stages' own results: those of a refused model stand in no status."""
    return latest_in_order(
        measured for result in job.results.values() for measured in result.evaluation
    )


def _settings(job: JobData) -> dict[str, str]:
    table = Provenance(job).settings
    return {path: value for path, value, _ in (table.rows if table else ())}


def _points(job: JobData, kind: str) -> list[Point]:
    points = [Point(line.step, line.loss) for line in job.curve if line.kind == kind]
    group = -(-len(points) // _MOST_POINTS)
    return [_mean(points[index : index + group]) for index in range(0, len(points), group or 1)]


def _mean(points: Sequence[Point]) -> Point:
    return Point(
        step=round(sum(point.step for point in points) / len(points)),
        loss=sum(point.loss for point in points) / len(points),
    )


def _costs(job: JobData) -> Iterator[tuple[str, str]]:
    """What is known of the job's size, speed and time."""
    status, train, compress = job.status, job.train, job.compress
    took = (
        (status.completion_time - status.start_time).total_seconds()
        if status.start_time and status.completion_time
        else None
    )
    known: list[tuple[str, float | None, Callable[[float], str]]] = [
        ("size that ships", compress.compressed_bytes, size),
        ("size before compression", compress.merged_bytes, size),
        ("trained parameters", train.trainable_parameters, _whole),
        ("step that is kept", train.best_step, _whole),
        ("training tokens per second", train.tokens_per_second, _whole),
        ("vLLM agrees", job.verify.agreement, percent),
        *((f"time of {stage.name}", stage.seconds or None, duration) for stage in status.stages),
        ("time in all", took, duration),
        ("accelerators", status.gpu_seconds or None, duration),
        ("cost", status.cost, number),
    ]
    if compress.scheme:
        yield "scheme", compress.scheme
    yield from ((name, written(value)) for name, value, written in known if value is not None)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _value_cells(result: EvaluationResult | None) -> tuple[str, str]:
    return ("", "") if result is None else (number(result.value), interval_of(result))


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
