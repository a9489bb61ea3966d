"""How far jobs are, for people and for programs; `commands/status.py` prints it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_cli.formats import duration, moment, number
from tunesmith_cli.measures import in_order
from tunesmith_cli.outlook import outlook_of
from tunesmith_cli.progress import progress_of, progress_text, state_of
from tunesmith_cli.summary import evaluation_table
from tunesmith_cli.terminal import Style, plain, table


@dataclass(frozen=True, slots=True)
class NamedStatus:
    """A job's name with its status, and whether a run of it is going on."""

    name: str
    status: FineTuneJobStatus
    is_running: bool


def status_as_json(job: NamedStatus) -> dict[str, JsonValue]:
    """The whole status, with the job's name."""
    status = job.status.model_dump(mode="json", by_alias=True)
    return {"job": job.name, "running": job.is_running, **status}


def status_as_text(job: NamedStatus, *, style: Style) -> str:
    """Phase, reason, cost, stages, numbers and warnings."""
    outlook = outlook_of(job.status)
    head = [f"{job.name}: {style.paint(job.status.phase, 'bold')}{_stopped(job)}"]
    if outlook.reason:
        message = f": {plain(outlook.message)}" if outlook.message else ""
        head.append(f"  {outlook.reason}{message}")
    if outlook.remedy:
        head.append(f"  What to do: {outlook.remedy}")
    used = _used(job.status)
    if used:
        head.append(f"  {used}")
    warnings = [
        f"{style.paint('warning', 'yellow')}  {plain(each)}" for each in job.status.warnings
    ]
    blocks = [
        "\n".join(head),
        _stages(job.status),
        evaluation_table(job.status.evaluation),
        "\n".join(warnings),
    ]
    return "\n\n".join(block for block in blocks if block)


def jobs_as_text(jobs: Iterable[NamedStatus]) -> str:
    """One line for each job."""
    rows = [
        (
            job.name,
            f"{job.status.phase}{_stopped(job)}",
            _percent(job.status),
            _score(job.status),
            _started(job.status.start_time),
        )
        for job in jobs
    ]
    return table([("job", "phase", "progress", "held-out loss", "started"), *rows])


def _stopped(job: NamedStatus) -> str:
    is_at_rest = job.status.is_finished or job.status.phase == Phase.SUSPENDED
    has_stopped = not job.is_running and not is_at_rest
    return " (no run is going on)" if has_stopped else ""


def _used(status: FineTuneJobStatus) -> str:
    """What the job has cost so far; empty for one that needed neither patience nor accelerators."""
    worked = f"{duration(status.gpu_seconds)} of accelerators" if status.gpu_seconds else ""
    waited = f"{duration(status.queued_seconds)} of waiting" if status.queued_seconds else ""
    spent = " and ".join(each for each in (worked, waited) if each)
    return f"Used: {spent}" if spent else ""


def _stages(status: FineTuneJobStatus) -> str:
    rows = []
    for stage in status.stages:
        said = plain(stage.message) or stage.reason
        if stage.state == "Running":
            said = progress_text(progress_of(status, stage))
        took = duration(stage.seconds) if stage.seconds else ""
        rows.append((stage.name, state_of(stage), str(stage.attempt or ""), took, said))
    return table([("stage", "state", "attempt", "time", ""), *rows]) if rows else ""


def _percent(status: FineTuneJobStatus) -> str:
    percent = status.progress.percent if status.progress else None
    return "" if percent is None else f"{percent:.0f} %"


def _score(status: FineTuneJobStatus) -> str:
    for each in in_order(status.evaluation):
        if (each.suite, each.metric, each.split) == ("heldOut", "loss", "tuned"):
            return number(each.value)
    return ""


def _started(when: datetime | None) -> str:
    return moment(when) if when else ""
