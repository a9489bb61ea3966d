"""`tunesmith status`: how far a job is, or all jobs."""

import argparse
import json
import sys
from pathlib import Path

from tunesmith_cli.jobs import find_job
from tunesmith_cli.refusal import EXIT_DONE
from tunesmith_cli.status_view import (
    NamedStatus,
    jobs_as_text,
    status_as_json,
    status_as_text,
)
from tunesmith_cli.terminal import style_of
from tunesmith_engine.local.home_folder import HomeFolder


def run(options: argparse.Namespace) -> int:
    """Print one job, or the list."""
    as_json = options.output == "json"
    if options.job is None:
        print(_list(options.home, as_json=as_json))
        return EXIT_DONE
    found = find_job(options.job, home=options.home)
    job = NamedStatus(found.name, found.status, is_running=found.home.is_running(found.name))
    if as_json:
        print(json.dumps(status_as_json(job), indent=1))
    else:
        print(status_as_text(job, style=style_of(sys.stdout)))
    return EXIT_DONE


def _list(home: Path, *, as_json: bool) -> str:
    shelf = HomeFolder(home)
    jobs = [
        NamedStatus(name, status, is_running=shelf.is_running(name))
        for name in shelf.list_jobs()
        if (status := shelf.read_status(name)) is not None
    ]
    if as_json:
        return json.dumps({"jobs": [status_as_json(job) for job in jobs]}, indent=1)
    return jobs_as_text(jobs) if jobs else f"no jobs in {home}; start one with: tunesmith run FILE"
