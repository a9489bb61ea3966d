"""The evidence in the order in which it is told: one record that the page's template shows.

`evidence.py` found it, `charts.py` draws, `page.py` renders. Text from data, models and logs stays
text here; the template escapes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus, Phase, StageStatus
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import duration, moment, number, percent, size
from tunesmith_cli.outlook import Outlook, outlook_of
from tunesmith_cli.progress import state_of
from tunesmith_cli.report.charts import Span, time_line
from tunesmith_cli.report.dataset import Dataset, tell_dataset
from tunesmith_cli.report.evidence import Evidence
from tunesmith_cli.report.measured import Measured, evaluation_of, tell_measured
from tunesmith_cli.report.pieces import Chart, Figure, Table
from tunesmith_cli.report.provenance import Provenance, tell_provenance

_ROLES: dict[str, str] = {Phase.SUCCEEDED: "good", Phase.FAILED: "bad", Phase.SUSPENDED: "waiting"}
_MOST_SPANS = 40


@dataclass(frozen=True, slots=True)
class Story:
    """Everything on the page."""

    name: str
    phase: str
    role: str
    when: str
    outlook: Outlook
    figures: list[Figure]
    warnings: list[str]
    stages: Table | None
    attempts: Table | None
    time_line: Chart | None
    measured: Measured
    dataset: Dataset
    provenance: Provenance
    written: str


def tell(evidence: Evidence, *, now: datetime) -> Story:
    """The story of a job as far as it has come."""
    status = evidence.status
    until = _last_sign(status, now=now)
    return Story(
        name=evidence.name,
        phase=status.phase,
        role=_ROLES.get(status.phase, "running"),
        when=_when(status, until=until),
        outlook=outlook_of(status),
        figures=list(_figures(evidence)),
        warnings=_warnings(evidence),
        stages=_stages(status.stages),
        attempts=_attempts(status.attempts, until=until),
        time_line=_time_line(status.attempts, until=until),
        measured=tell_measured(evidence),
        dataset=tell_dataset(evidence),
        provenance=tell_provenance(evidence),
        written=moment(now),
    )


def _last_sign(status: FineTuneJobStatus, *, now: datetime) -> datetime:
    """Until when the job is known to have worked; a run that was killed says nothing more."""
    if status.completion_time:
        return status.completion_time
    return status.progress.last_update_time if status.progress else now


def _when(status: FineTuneJobStatus, *, until: datetime) -> str:
    if status.start_time is None:
        return "not started"
    took = duration(max((until - status.start_time).total_seconds(), 0.0))
    so_far = f"took {took}" if status.completion_time else f"{took} so far"
    return f"started {moment(status.start_time)}, {so_far}"


def _figures(evidence: Evidence) -> Iterator[Figure]:
    for result in evaluation_of(evidence):
        if (result.metric, result.split) == ("loss", "tuned"):
            yield _loss_figure(result)
    yield from _size_figures(evidence)
    verify = evidence.verify
    if verify.agreement is not None:
        yield Figure("vLLM agrees", percent(verify.agreement), "of tokens, with transformers")
    if evidence.train.tokens_per_second is not None:
        speed = number(round(evidence.train.tokens_per_second))
        yield Figure("Training speed", f"{speed}/s", "tokens")


def _loss_figure(result: EvaluationResult) -> Figure:
    label = {"heldOut": "Held-out loss", "general": "General loss"}.get(result.suite, result.suite)
    note = f"base model {number(result.base)}" if result.base is not None else ""
    return Figure(label, number(result.value), note)


def _size_figures(evidence: Evidence) -> Iterator[Figure]:
    compress = evidence.compress
    accepted = [each for each in compress.tries if each.accepted]
    recovery = [part for each in accepted[-1:] for part in each.recovery.values() if part]
    if recovery:
        yield Figure("Recovery", percent(min(recovery)), f"of quality, as {compress.scheme}")
    if compress.compressed_bytes:
        merged = f"{size(compress.merged_bytes)} before" if compress.merged_bytes else ""
        yield Figure("Size", size(compress.compressed_bytes), merged)


def _warnings(evidence: Evidence) -> list[str]:
    found = [
        *evidence.status.warnings,
        *(text for result in evidence.results.values() for text in result.warnings),
        *_card_warnings(evidence.card),
    ]
    return list(dict.fromkeys(found))


def _card_warnings(card: JsonValue) -> list[str]:
    found = card.get("warnings") if isinstance(card, dict) else None
    return [str(each) for each in found] if isinstance(found, list) else []


def _stages(stages: list[StageStatus]) -> Table | None:
    rows = [
        (
            each.name,
            state_of(each),
            duration(each.seconds) if each.seconds else "",
            str(each.attempt) if each.attempt else "",
            each.message or each.reason,
        )
        for each in stages
    ]
    head = ("stage", "state", "time", "attempt", "outcome")
    return Table("Stages", head, rows, frozenset({2, 3})) if rows else None


def _attempts(attempts: list[Attempt], *, until: datetime) -> Table | None:
    rows = [
        (
            f"{each.stage} {each.number}",
            moment(each.start_time),
            duration(max(((each.end_time or until) - each.start_time).total_seconds(), 0.0)),
            duration(each.queued_seconds) if each.queued_seconds else "",
            duration(each.accelerators * each.running_seconds) if each.accelerators else "",
            ": ".join(filter(None, (each.reason or "running", each.message))),
            "" if each.resumed_from_step is None else f"step {each.resumed_from_step:,}",
        )
        for each in attempts
    ]
    head = ("attempt", "started", "time", "waited", "accelerators", "ended", "went on from")
    return Table("Attempts", head, rows, frozenset({2, 3, 4})) if rows else None


def _time_line(attempts: list[Attempt], *, until: datetime) -> Chart | None:
    latest = attempts[-_MOST_SPANS:]
    spans = [
        Span(
            label=f"{each.stage} {each.number}",
            role=_span_role(each),
            start=each.start_time,
            end=max(each.end_time or until, each.start_time),
        )
        for each in latest
    ]
    return Chart(drawing=time_line(spans), caption="When each attempt ran.") if spans else None


def _span_role(attempt: Attempt) -> str:
    if attempt.end_time is None:
        return "running"
    return "done" if attempt.reason in {"", "Succeeded", "Cached"} else "failed"
