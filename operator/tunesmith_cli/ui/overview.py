"""What the page shows: every job and every published version, as one JSON object.

Pure: from records to text, so that the page has nothing to decide but where it stands.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_cli.formats import age, duration, number, size
from tunesmith_cli.hints import diagnose
from tunesmith_cli.job_list import NamedStatus
from tunesmith_cli.metrics import base_of
from tunesmith_cli.model_list import PublishedVersion
from tunesmith_cli.terminal.stages import progress_text, state_of

# How a phase is coloured; of any other, some stage is at work.
_ROLES: Final[Mapping[str, str]] = {
    Phase.SUCCEEDED: "good",
    Phase.FAILED: "bad",
    Phase.SUSPENDED: "waiting",
    Phase.PENDING: "waiting",
    Phase.QUEUED: "waiting",
}


def overview(
    jobs: Iterable[NamedStatus],
    versions: Iterable[PublishedVersion],
    *,
    home: str,
    now: datetime,
) -> dict[str, JsonValue]:
    """The object; texts as a terminal shows them, numbers only where the page draws."""
    return {
        "home": home,
        "jobs": [_job(job, now=now) for job in jobs],
        "versions": [_version(one, now=now) for one in versions],
    }


def _job(job: NamedStatus, *, now: datetime) -> JsonValue:
    status, diagnosis = job.status, diagnose(job.status)
    is_told = status.phase in {Phase.FAILED, Phase.SUSPENDED}
    role = _ROLES.get(status.phase, "running")
    return {
        "name": job.name,
        "phase": status.phase,
        # What a killed run has left behind only looks as if it worked.
        "role": "waiting" if job.note else role,
        "note": job.note.strip(" ()"),
        "live": job.is_running and not status.is_finished,
        "percent": status.progress.percent if status.progress else None,
        "doing": progress_text(status.progress) if role == "running" else "",
        "stages": [
            {"name": stage.name, "state": stage.state, "said": state_of(stage)}
            for stage in status.stages
        ],
        "loss": "" if job.loss is None else number(job.loss),
        "base": _base_loss(status),
        "version": status.model_version or "",
        "age": age((now - status.start_time).total_seconds()) if status.start_time else "",
        "took": _took(status),
        "why": f"{diagnosis.reason}: {diagnosis.message}" if is_told and diagnosis.reason else "",
        "hint": diagnosis.hint if is_told else "",
    }


def _base_loss(status: FineTuneJobStatus) -> str:
    base = base_of(
        result
        for result in status.evaluation
        if (result.suite, result.metric) == ("heldOut", "loss")
    )
    return "" if base is None else number(base)


def _took(status: FineTuneJobStatus) -> str:
    if status.start_time is None or status.completion_time is None:
        return ""
    return duration((status.completion_time - status.start_time).total_seconds())


def _version(one: PublishedVersion, *, now: datetime) -> JsonValue:
    return {
        "model": one.model,
        "version": one.version,
        "job": one.job,
        "scheme": one.scheme,
        "loss": "" if one.loss is None else number(one.loss),
        "size": "" if one.num_bytes is None else size(one.num_bytes),
        "age": age((now - one.published).total_seconds()) if one.published else "",
        "where": str(one.folder) if one.folder else one.uri,
        "problem": one.problem,
    }
