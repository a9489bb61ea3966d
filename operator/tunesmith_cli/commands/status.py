"""`tunesmith status`: how far a job is, or all jobs.

`run` says the same at the end of a job, in `commands/run.py`.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.formats import duration, moment, number
from tunesmith_cli.hints import diagnose
from tunesmith_cli.inputs import find_job
from tunesmith_cli.metrics import evaluation_table, latest_in_order
from tunesmith_cli.terminal.stages import phase_of, progress_of, progress_text, state_of
from tunesmith_cli.terminal.style import Style, paragraph, plain, style_of, table, warning_lines
from tunesmith_engine.local.home_folder import HomeFolder


@dataclass(frozen=True, slots=True)
class NamedStatus:
    """A job's name with its status, and whether a run of it is going on."""

    name: str
    status: FineTuneJobStatus
    is_running: bool

    @property
    def note(self) -> str:
        """What to add to the phase where it is only what a killed run has left behind."""
        # A run that is killed leaves no last word in status.json; its lock tells that it is over.
        is_at_rest = self.status.is_finished or self.status.phase == Phase.SUSPENDED
        return "" if self.is_running or is_at_rest else " (no run is going on)"


def run(options: argparse.Namespace) -> int:
    """Print one job, or the list."""
    as_json = options.output == "json"
    if options.job is None:
        print(_all_jobs(options.home, as_json=as_json))
        return EXIT_DONE
    stored = find_job(options.job, root=options.home)
    job = NamedStatus(stored.name, stored.status, is_running=stored.home.is_running(stored.name))
    if as_json:
        print(json.dumps(status_as_json(job), indent=1))
    else:
        print(status_as_text(job, style=style_of(sys.stdout)))
    return EXIT_DONE


def _all_jobs(root: Path, *, as_json: bool) -> str:
    home = HomeFolder(root)
    jobs = [
        NamedStatus(name, status, is_running=home.is_running(name))
        for name in home.list_jobs()
        # A status that cannot be read is named in a warning; the other jobs are still listed.
        if (status := home.read_status(name)) is not None
    ]
    if as_json:
        return json.dumps({"jobs": [status_as_json(job) for job in jobs]}, indent=1)
    return jobs_as_text(jobs) if jobs else f"no jobs in {root}; start one with: tunesmith run FILE"


def status_as_json(job: NamedStatus) -> dict[str, JsonValue]:
    """The whole status, with the job's name."""
    status = job.status.model_dump(mode="json", by_alias=True)
    return {"job": job.name, "running": job.is_running, **status}


def status_as_text(job: NamedStatus, *, style: Style) -> str:
    """Phase, reason, cost, stages, numbers and warnings."""
    head = [f"{job.name}: {style.paint(phase_of(job.status), 'bold')}{job.note}"]
    diagnosis = diagnose(job.status)
    if diagnosis.reason:
        said = paragraph(diagnosis.message, indent="    ")
        head.append(f"  {diagnosis.reason}: {said}".removesuffix(": "))
    if diagnosis.hint:
        head.append(f"  What to do: {diagnosis.hint}")
    head += _used(job.status)
    blocks = [
        "\n".join(head),
        _stage_table(job.status),
        evaluation_table(job.status.evaluation),
        warning_lines(job.status.warnings, style=style),
    ]
    return "\n\n".join(block for block in blocks if block)


def jobs_as_text(jobs: Iterable[NamedStatus]) -> str:
    """One line for each job."""
    rows = [("job", "phase", "progress", "held-out loss", "started")]
    for job in jobs:
        progress, started = job.status.progress, job.status.start_time
        percent = progress.percent if progress else None
        losses = [
            number(result.value)
            for result in latest_in_order(job.status.evaluation)
            if (result.suite, result.metric, result.split) == ("heldOut", "loss", "tuned")
        ]
        rows.append(
            (
                job.name,
                f"{phase_of(job.status)}{job.note}",
                "" if percent is None else f"{percent:.0f} %",
                losses[0] if losses else "",
                moment(started) if started else "",
            )
        )
    return table(rows)


def _used(status: FineTuneJobStatus) -> list[str]:
    """What the job has cost so far; empty for one that needed neither patience nor accelerators."""
    worked = f"{duration(status.gpu_seconds)} of accelerators" if status.gpu_seconds else ""
    waited = f"{duration(status.queued_seconds)} of waiting" if status.queued_seconds else ""
    spent = " and ".join(filter(None, (worked, waited)))
    return [f"  Used: {spent}"] if spent else []


def _stage_table(status: FineTuneJobStatus) -> str:
    if not status.stages:
        return ""
    rows = [("stage", "state", "attempt", "time", "")]
    for stage in status.stages:
        said = plain(stage.message) or stage.reason
        if stage.state == "Running":
            said = progress_text(progress_of(status, stage))
        took = duration(stage.seconds) if stage.seconds else ""
        rows.append((stage.name, state_of(stage), str(stage.attempt or ""), took, said))
    return table(rows)
