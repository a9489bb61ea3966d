"""`tunesmith status`: how far a job is; without a name as `tunesmith jobs`.

`run` says the same at the end of a job, in `commands/run.py`.
"""

import argparse
import json
import sys

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_cli.commands.jobs import run as list_jobs
from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.formats import duration
from tunesmith_cli.hints import diagnose
from tunesmith_cli.inputs import find_job
from tunesmith_cli.job_list import NamedStatus, status_as_json
from tunesmith_cli.metrics import evaluation_table
from tunesmith_cli.terminal.stages import phase_of, progress_of, progress_text, state_of
from tunesmith_cli.terminal.style import Style, paragraph, plain, style_of, table, warning_lines


def run(options: argparse.Namespace) -> int:
    """Print one job, or the list."""
    if options.job is None:
        return list_jobs(options)
    as_json = options.output == "json"
    stored = find_job(options.job, root=options.home)
    job = NamedStatus(stored.name, stored.status, is_running=stored.home.is_running(stored.name))
    if as_json:
        print(json.dumps(status_as_json(job), indent=1))
    else:
        print(status_as_text(job, style=style_of(sys.stdout)))
    return EXIT_DONE


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
