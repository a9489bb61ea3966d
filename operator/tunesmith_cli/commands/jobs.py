"""`tunesmith jobs`: every job of the home folder in a line, as `status` without a name."""

import argparse
import json
from datetime import UTC, datetime

from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.job_list import jobs_as_text, status_as_json, stored_jobs
from tunesmith_engine.local.home_folder import HomeFolder


def run(options: argparse.Namespace) -> int:
    """Print the list."""
    jobs = stored_jobs(HomeFolder(options.home))
    if options.output == "json":
        print(json.dumps({"jobs": [status_as_json(job) for job in jobs]}, indent=1))
    elif jobs:
        print(jobs_as_text(jobs, now=datetime.now(UTC)))
    else:
        print(f"no jobs in {options.home}; begin one with: tunesmith init")
    return EXIT_DONE
