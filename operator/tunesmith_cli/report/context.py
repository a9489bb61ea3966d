"""What the report says; the page's template asks `ReportContext` for each part by its name.

`job_data.py` has read the job's folder, `measurements.py`, `dataset.py` and `provenance.py` make
their sections, `page.py` renders. Here are the head, the figures, the warnings and the course: a
row for each stage that the job has, whichever those are. A stage that no section is about has its
facts in a table below the course.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from tunesmith_api.finetunejob.status import Attempt, Phase
from tunesmith_cli.formats import duration, moment, number, percent, size
from tunesmith_cli.hints import Diagnosis, diagnose
from tunesmith_cli.report.charts import Span, time_line
from tunesmith_cli.report.components import Chart, Figure, Table, json_table, table_of
from tunesmith_cli.report.cross_validation import CrossValidationSection
from tunesmith_cli.report.dataset import DatasetSection
from tunesmith_cli.report.distillation import DistillationSection
from tunesmith_cli.report.explanation import ExplanationSection
from tunesmith_cli.report.exports import ExportsSection
from tunesmith_cli.report.glossary import GLOSSARY
from tunesmith_cli.report.job_data import FACTS_WITH_A_FORM, JobData
from tunesmith_cli.report.measurements import Measurements
from tunesmith_cli.report.provenance import Provenance
from tunesmith_cli.report.search import SearchSection
from tunesmith_cli.report.training import TrainingSection
from tunesmith_cli.terminal.stages import phase_of, state_of

_ROLES: Final[Mapping[str, str]] = {
    Phase.SUCCEEDED: "good",
    Phase.FAILED: "bad",
    Phase.SUSPENDED: "waiting",
}
# A job may have 64 attempts; more bars than this are taller than a screen. All are in the table.
_MOST_SPANS: Final = 40
# Rows of a table of facts, which may hold anything.
_MOST_FACTS: Final = 200


@dataclass(frozen=True)
class ReportContext:
    """Everything on the page, as far as the job has come; `now` is the end of what still runs."""

    job: JobData
    now: datetime

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def glossary(self) -> Mapping[str, str]:
        return GLOSSARY

    @property
    def phase(self) -> str:
        return phase_of(self.job.status)

    @property
    def role(self) -> str:
        """How the phase is coloured: good, bad, waiting or running."""
        # Any other phase means that some stage is at work.
        return _ROLES.get(self.job.status.phase, "running")

    @property
    def when(self) -> str:
        status = self.job.status
        if status.start_time is None:
            return "not started"
        took = _between(status.start_time, self.until)
        so_far = f"took {took}" if status.completion_time else f"{took} so far"
        return f"started {moment(status.start_time)}, {so_far}"

    @property
    def written(self) -> str:
        return moment(self.now)

    @property
    def until(self) -> datetime:
        """Until when the job is known to have worked."""
        # A run that was killed says nothing more, and its bars must not grow with every look: the
        # last report of progress is the end.
        status = self.job.status
        progress = status.progress
        return status.completion_time or (progress.last_update_time if progress else self.now)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        return diagnose(self.job.status)

    @cached_property
    def measured(self) -> Measurements:
        return Measurements(self.job)

    @cached_property
    def training(self) -> TrainingSection:
        return TrainingSection(self.job)

    @cached_property
    def search(self) -> SearchSection:
        return SearchSection(self.job)

    @cached_property
    def cross_validation(self) -> CrossValidationSection:
        return CrossValidationSection(self.job)

    @cached_property
    def explanation(self) -> ExplanationSection:
        return ExplanationSection(self.job)

    @cached_property
    def distillation(self) -> DistillationSection:
        return DistillationSection(self.job)

    @cached_property
    def exports(self) -> ExportsSection:
        return ExportsSection(self.job)

    @cached_property
    def dataset(self) -> DatasetSection:
        return DatasetSection(self.job)

    @cached_property
    def provenance(self) -> Provenance:
        return Provenance(self.job)

    @cached_property
    def figures(self) -> list[Figure]:
        """The few numbers that a reader looks for first."""
        figures = []
        for result in self.measured.results:
            if (result.metric, result.split) == ("loss", "tuned"):
                label = {"heldOut": "Held-out loss", "general": "General loss"}.get(result.suite)
                note = f"base model {number(result.base)}" if result.base is not None else ""
                figures.append(Figure(label or result.suite, number(result.value), note))
        compress, verify, train = self.job.compress, self.job.verify, self.job.train
        # The last that was accepted ships; its worst suite is what the gate has judged.
        accepted = [scheme for scheme in compress.tries if scheme.accepted][-1:]
        recovery = [part for scheme in accepted for part in scheme.recovery.values() if part]
        if recovery:
            note = f"of quality, as {compress.scheme}"
            figures.append(Figure("Recovery", percent(min(recovery)), note))
        if compress.compressed_bytes:
            note = f"{size(compress.merged_bytes)} before" if compress.merged_bytes else ""
            figures.append(Figure("Size", size(compress.compressed_bytes), note))
        if verify.agreement is not None:
            agreed = percent(verify.agreement)
            figures.append(Figure("vLLM agrees", agreed, "of tokens, with transformers"))
        if train.tokens_per_second is not None:
            speed = f"{number(round(train.tokens_per_second))}/s"
            figures.append(Figure("Training speed", speed, "tokens"))
        return figures

    @cached_property
    def warnings(self) -> list[str]:
        """What the engine, each stage and the data card warn of, each once."""
        card = self.job.card.get("warnings") if isinstance(self.job.card, dict) else None
        warnings = [
            *self.job.status.warnings,
            # The status keeps 32 of them at most; the results have all.
            *(text for result in self.job.results.values() for text in result.warnings),
            *(str(text) for text in (card if isinstance(card, list) else ())),
        ]
        return list(dict.fromkeys(warnings))

    @cached_property
    def stages(self) -> Table | None:
        """A row for each stage of the job."""
        rows = [
            (
                stage.name,
                state_of(stage),
                duration(stage.seconds) if stage.seconds else "",
                str(stage.attempt) if stage.attempt else "",
                stage.message or stage.reason,
            )
            for stage in self.job.status.stages
        ]
        head = ("stage", "state", "time", "attempt", "outcome")
        return table_of("Stages", head, rows, numeric=(2, 3))

    @cached_property
    def attempts(self) -> Table | None:
        """A row for each attempt, with what it waited and used."""
        rows = []
        for attempt in self.job.status.attempts:
            # Seconds of one accelerator, as they are paid for.
            used = attempt.accelerators * attempt.running_seconds
            step = attempt.resumed_from_step
            rows.append(
                (
                    f"{attempt.stage} {attempt.number}",
                    moment(attempt.start_time),
                    _between(attempt.start_time, attempt.end_time or self.until),
                    duration(attempt.queued_seconds) if attempt.queued_seconds else "",
                    duration(used) if attempt.accelerators else "",
                    ": ".join(filter(None, (attempt.reason or "running", attempt.message))),
                    "" if step is None else f"step {step:,}",
                )
            )
        head = ("attempt", "started", "time", "waited", "accelerators", "ended", "went on from")
        return table_of("Attempts", head, rows, numeric=(2, 3, 4))

    @cached_property
    def time_line(self) -> Chart | None:
        """The latest attempts as bars."""
        spans = [
            Span(
                label=f"{attempt.stage} {attempt.number}",
                role=_span_role(attempt),
                start=attempt.start_time,
                # An attempt may have begun after the last report of progress.
                end=max(attempt.end_time or self.until, attempt.start_time),
            )
            for attempt in self.job.status.attempts[-_MOST_SPANS:]
        ]
        return Chart(drawing=time_line(spans), caption="When each attempt ran.") if spans else None

    @cached_property
    def facts(self) -> list[Table]:
        """What stages have reported that no section shows, as it stands."""
        tables = [
            json_table(f"What {stage} reported", result.facts, most_rows=_MOST_FACTS)
            for stage, result in self.job.results.items()
            if stage not in FACTS_WITH_A_FORM
        ]
        return list(filter(None, tables))


def _span_role(attempt: Attempt) -> str:
    if attempt.end_time is None:
        return "running"
    return "done" if attempt.reason in {"", "Succeeded", "Cached"} else "failed"


def _between(start: datetime, end: datetime) -> str:
    # Clocks of two machines may differ: a pod's progress can be older than its job's start.
    return duration(max(end - start, timedelta()).total_seconds())
