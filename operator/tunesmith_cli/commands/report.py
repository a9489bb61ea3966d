"""`tunesmith report`: write the page of a job and say where it is."""

import argparse

from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.inputs import find_job
from tunesmith_cli.report.page import write_report


def run(options: argparse.Namespace) -> int:
    """Write report.html anew, for a job that still runs as well."""
    job = find_job(options.job, root=options.home)
    print(write_report(job.folder, job.status))
    return EXIT_DONE
