"""`tunesmith run`: a job from its manifest to its end, with progress, a report and an exit code.

The engine runs it; here is what people and programs are told. `status` says the same about a job
that is looked at later.
"""

import argparse
import json
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_cli.commands.serve import published_folder, serve_folder
from tunesmith_cli.errors import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    CommandError,
)
from tunesmith_cli.formats import duration, size
from tunesmith_cli.hints import diagnose
from tunesmith_cli.inputs import Manifest, open_manifest
from tunesmith_cli.metrics import evaluation_table
from tunesmith_cli.options import default_home
from tunesmith_cli.report.job_data import JobData, read_job_data
from tunesmith_cli.report.page import write_report
from tunesmith_cli.terminal.display import display_for
from tunesmith_cli.terminal.signals import stopping
from tunesmith_cli.terminal.stages import phase_of
from tunesmith_cli.terminal.style import Style, paragraph, style_of, table, warning_lines
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.runner import run_job
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.contracts import METRICS_PORT, StageName

_PHASE_COLOURS: Final[Mapping[str, str]] = {Phase.SUCCEEDED: "green", Phase.FAILED: "red"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known at the end: the job's data, its report, and the log of the stage that failed.

    `home_option` is what the next command needs to find the same home folder; empty for the usual.
    """

    job: JobData
    report: Path
    log: Path | None
    home_option: str = ""

    @property
    def status(self) -> FineTuneJobStatus:
        return self.job.status


def run(options: argparse.Namespace) -> int:
    """Run the job, say how it ended, and serve it where that was asked for."""
    if options.forced_from and not options.force:
        raise CommandError(
            "--from throws results away, and so needs --force; without both, "
            "the job goes on with what is not done"
        )
    manifest = open_manifest(options.file)
    home = HomeFolder(options.home)
    if options.metrics_port is not None:
        # The stage's process has the command's environment, and its workers have the stage's.
        os.environ[METRICS_PORT] = str(options.metrics_port)
    first = options.forced_from or CATALOG.names[0] if options.force else None
    status = _run_to_end(manifest, home=home, until=options.until, forced_from=first)
    summary = _summary(manifest.job.metadata.name, home=home, status=status)
    as_json = options.output == "json"
    # Results go to stdout; where that has to hold the one object, people read stderr.
    told = sys.stderr if as_json else sys.stdout
    print(summary_as_text(summary, style=style_of(told)), file=told)
    if as_json:
        print(json.dumps(summary_as_json(summary), indent=1))
    code = _exit_code(summary.job)
    if code == EXIT_INTERRUPTED:
        until = f" --until {options.until}" if options.until else ""
        go_on = f"tunesmith run {shlex.quote(str(options.file))}{until}{summary.home_option}"
        print(f"stopped; to go on: {go_on}", file=sys.stderr)
    if options.serve and code == EXIT_DONE:
        if as_json:
            # NB: the server writes to stdout, which holds the one object.
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return serve_folder(published_folder(summary.job), host="127.0.0.1", port=8000)
    return code


def _run_to_end(
    manifest: Manifest,
    *,
    home: HomeFolder,
    until: StageName | None,
    forced_from: StageName | None,
) -> FineTuneJobStatus:
    name, stop = manifest.job.metadata.name, threading.Event()
    with display_for(name, stream=sys.stderr) as display, stopping(stop, say=display.say):
        return run_job(
            manifest.job,
            manifest_text=manifest.text,
            base=manifest.base,
            home=home,
            environments=Environments.discover(),
            until=until,
            forced_from=forced_from,
            watch=display.show,
            stop=stop,
        )


def _summary(name: str, *, home: HomeFolder, status: FineTuneJobStatus) -> Summary:
    folder = home.job(name)
    # Written for a job that failed or was stopped as well: that is when it is read most.
    report = write_report(folder, status)
    failed = next((stage for stage in status.stages if stage.state == "Failed"), None)
    return Summary(
        job=read_job_data(folder, status),
        report=report,
        log=home.log(name, stage=failed.name, attempt=failed.attempt) if failed else None,
        home_option="" if home.root == default_home() else f" --home {shlex.quote(str(home.root))}",
    )


def _exit_code(job: JobData) -> int:
    reason = diagnose(job.status).reason
    # To stop after --until is what was asked for, though the job is suspended then.
    if job.status.phase == Phase.SUCCEEDED or reason == Reason.STOPPED_AS_ASKED:
        return EXIT_DONE
    if reason == Reason.INTERRUPTED:
        return EXIT_INTERRUPTED
    # Only the stage that failed knows whether the user's input was at fault.
    results = job.results.values()
    has_bad_input = any(result.bad_input for result in results if result.outcome == "Failed")
    return EXIT_BAD_INPUT if has_bad_input else EXIT_FAILED


def summary_as_json(summary: Summary) -> dict[str, JsonValue]:
    """The one object that `run --output json` prints."""
    status = summary.status.model_dump(mode="json", by_alias=True)
    diagnosis = diagnose(summary.status)
    # Of a stage what a pipeline branches on; the rest of its record is the engine's bookkeeping.
    fields = ("name", "key", "state", "cached", "seconds", "attempt", "reason", "message")
    return {
        "job": summary.job.name,
        "phase": status["phase"],
        "reason": diagnosis.reason,
        "message": diagnosis.message,
        "conditions": status["conditions"],
        "evaluation": status["evaluation"],
        "artifacts": status["artifacts"],
        "stages": [{field: stage[field] for field in fields} for stage in status["stages"]],
        "warnings": status["warnings"],
        "report": str(summary.report),
        "modelVersion": status["modelVersion"],
    }


def summary_as_text(summary: Summary, *, style: Style) -> str:
    """Outcome, numbers, where everything is, and the next command."""
    blocks = [
        _headline(summary, style=style),
        evaluation_table(summary.status.evaluation),
        warning_lines(summary.status.warnings, style=style),
        table(list(_places(summary))),
    ]
    return "\n\n".join(block for block in blocks if block)


def _headline(summary: Summary, *, style: Style) -> str:
    status, diagnosis = summary.status, diagnose(summary.status)
    colour = _PHASE_COLOURS.get(status.phase, "yellow")
    head = f"{summary.job.name}: {style.paint(phase_of(status), 'bold', colour)}"
    if status.start_time and status.completion_time:
        head += f" in {duration((status.completion_time - status.start_time).total_seconds())}"
    if status.phase == Phase.SUCCEEDED and all(stage.cached for stage in status.stages):
        head += ", done before"
    lines = [head]
    if status.phase != Phase.SUCCEEDED and diagnosis.reason:
        said = paragraph(diagnosis.message, indent="    ")
        lines.append(f"  {style.paint(diagnosis.reason, 'bold')}: {said}")
        if diagnosis.hint:
            lines.append(f"  What to do: {diagnosis.hint}")
    return "\n".join(lines)


def _places(summary: Summary) -> Iterator[tuple[str, str]]:
    version = summary.job.published
    if version:
        yield "model", f"{version.uri.removeprefix('file://')} ({size(version.bytes)})"
    if summary.log:
        yield "log", str(summary.log)
    yield "report", str(summary.report)
    if version:
        yield "next", f"tunesmith serve {summary.job.name}{summary.home_option}"
