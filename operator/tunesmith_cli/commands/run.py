"""`tunesmith run`: a job from its manifest to its end, with progress, a report and an exit code."""

import argparse
import json
import os
import sys
import threading
from pathlib import Path

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_cli.arguments import default_home
from tunesmith_cli.display import display_for
from tunesmith_cli.interrupts import stopping
from tunesmith_cli.manifests import Manifest, open_manifest
from tunesmith_cli.outlook import outlook_of
from tunesmith_cli.refusal import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from tunesmith_cli.report.evidence import Evidence, gather
from tunesmith_cli.report.page import write_report
from tunesmith_cli.servers import published_folder, serve_folder
from tunesmith_cli.summary import Ending, as_json, as_text
from tunesmith_cli.terminal import style_of
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home import Home
from tunesmith_engine.local.runner import run_job
from tunesmith_engine.stages.contracts import StageName


def run(options: argparse.Namespace) -> int:
    """Run the job, say how it ended, and serve it where that was asked for."""
    manifest = open_manifest(options.file)
    home = Home(options.home)
    status = _carried_out(manifest, home=home, until=options.until)
    ending = _ending(manifest.job.metadata.name, home=home, status=status)
    _tell(ending, as_json_object=options.output == "json")
    code = _exit_code(ending.evidence)
    if code == EXIT_INTERRUPTED:
        print(
            f"stopped; to go on: tunesmith run {options.file}{ending.home_option}", file=sys.stderr
        )
    if options.serve and code == EXIT_DONE:
        if options.output == "json":
            # NB: the server writes to stdout, which holds the one object.
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return serve_folder(published_folder(ending.evidence), host="127.0.0.1", port=8000)
    return code


def _carried_out(manifest: Manifest, *, home: Home, until: StageName | None) -> FineTuneJobStatus:
    name, stop = manifest.job.metadata.name, threading.Event()
    with display_for(name, stream=sys.stderr) as display, stopping(stop, say=display.say):
        return run_job(
            manifest.job,
            manifest_text=manifest.text,
            base=manifest.base,
            home=home,
            environments=Environments.discover(),
            until=until,
            watch=display.show,
            stop=stop,
        )


def _ending(name: str, *, home: Home, status: FineTuneJobStatus) -> Ending:
    folder = home.job(name)
    report = write_report(folder, status)
    evidence = gather(folder, status)
    is_usual = home.root == default_home()
    return Ending(
        evidence=evidence,
        report=report,
        log=_log_of_failure(evidence, home=home),
        home_option="" if is_usual else f" --home {home.root}",
    )


def _log_of_failure(evidence: Evidence, *, home: Home) -> Path | None:
    failed = [stage for stage in evidence.status.stages if stage.state == "Failed"]
    if not failed:
        return None
    return home.log(evidence.name, stage=failed[0].name, attempt=failed[0].attempt)


def _tell(ending: Ending, *, as_json_object: bool) -> None:
    """People read stdout too, unless it holds the object."""
    if as_json_object:
        print(as_text(ending, style=style_of(sys.stderr)), file=sys.stderr)
        print(json.dumps(as_json(ending), indent=1))
    else:
        print(as_text(ending, style=style_of(sys.stdout)))


def _exit_code(evidence: Evidence) -> int:
    reason = outlook_of(evidence.status).reason
    if evidence.status.phase == Phase.SUCCEEDED or reason == Reason.STOPPED_AS_ASKED:
        return EXIT_DONE
    if reason == Reason.INTERRUPTED:
        return EXIT_INTERRUPTED
    results = evidence.results.values()
    has_bad_input = any(each.bad_input for each in results if each.outcome == "Failed")
    return EXIT_BAD_INPUT if has_bad_input else EXIT_FAILED
