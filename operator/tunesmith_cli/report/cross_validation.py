"""The section about cross-validation: the curve of each fold, their mean and its interval."""

from dataclasses import dataclass
from functools import cached_property

from tunesmith_cli.formats import counted, duration, number
from tunesmith_cli.report.charts import Interval, Line, Point, interval_chart, loss_chart
from tunesmith_cli.report.components import Chart, Table, table_of
from tunesmith_cli.report.job_data import JobData
from tunesmith_engine.stages.trial_records import TrialRecord


@dataclass(frozen=True)
class CrossValidationSection:
    """The folds of a job; those that have ended are shown while others still run."""

    job: JobData

    @property
    def about(self) -> str:
        """In sentences, what the folds say, as far as they have come."""
        facts, done = self.job.crossval, [fold for fold in self.job.folds if fold.objectives]
        loss = facts.held_out_loss
        if loss is None:
            return f"{len(done)} of {counted(len(self.job.folds), 'fold')} so far."
        steps = f"best step {number(facts.median_best_step)} in the median"
        return (
            f"Held-out loss {number(loss.mean)}, {number(loss.low)} to {number(loss.high)} by "
            f"Student's t at 95 % over {counted(len(done), 'fold')}; {steps}."
        )

    @cached_property
    def curves(self) -> Chart | None:
        """The held-out loss of each fold by step."""
        lines = [
            Line(f"fold {fold.number}", "general", [Point(p.step, p.value) for p in measured])
            for fold in self.job.folds
            if (measured := fold.intermediates)
        ]
        if not lines:
            return None
        caption = "The held-out loss of each fold, nats per target token, by optimizer step."
        return Chart(drawing=loss_chart(lines, best=None), caption=caption)

    @cached_property
    def interval(self) -> Chart | None:
        """The lowest loss of each fold, and their mean with its interval."""
        loss = self.job.crossval.held_out_loss
        if loss is None:
            return None
        rows = [
            Interval("mean", "tuned", loss.mean, low=loss.low, high=loss.high),
            *(
                Interval(f"fold {fold.number}", "base", value)
                for fold in self.job.folds
                if (value := _loss(fold)) is not None
            ),
        ]
        caption = (
            "The lowest held-out loss of each fold. Folds share training rows, so that the "
            "interval is somewhat too narrow."
        )
        return Chart(drawing=interval_chart("Loss by fold", rows), caption=caption)

    @cached_property
    def folds(self) -> Table | None:
        """A row for each fold."""
        num_rows = [str(fold.rows) for fold in self.job.crossval.folds]
        rows = [
            (
                str(fold.number),
                fold.state if not fold.reason else f"{fold.state}: {fold.reason}",
                num_rows[place] if place < len(num_rows) else "",
                "" if (loss := _loss(fold)) is None else number(loss),
                "" if fold.best_step is None else str(fold.best_step),
                duration(fold.seconds),
            )
            for place, fold in enumerate(self.job.folds)
        ]
        head = ("fold", "state", "rows", "held-out loss", "best step", "time")
        return table_of("Folds", head, rows, numeric=(2, 3, 4))


def _loss(fold: TrialRecord) -> float | None:
    return fold.objectives.get("heldOutLoss")
