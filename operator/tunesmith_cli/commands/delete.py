"""`tunesmith delete`: what the home folder holds of a job, gone. Published models stay."""

import argparse
import sys

from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, CommandError
from tunesmith_cli.formats import counted, size
from tunesmith_cli.inputs import StoredJob, find_job
from tunesmith_cli.terminal.style import table
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.pruning import bytes_below, delete_job


def run(options: argparse.Namespace) -> int:
    """Say what would go, ask, and delete."""
    # All are looked up first: a misspelt name among several must not leave half of it done.
    jobs = [find_job(name, root=options.home) for name in dict.fromkeys(options.jobs)]
    sizes = {job.name: bytes_below(job.folder) for job in jobs}
    print(_table(jobs, sizes), file=sys.stderr)
    if not options.yes and not _agrees(len(jobs)):
        print("nothing was deleted", file=sys.stderr)
        return EXIT_FAILED
    home = HomeFolder(options.home)
    for job in jobs:
        delete_job(home, job.name)
        print(f"deleted job '{job.name}', {size(sizes[job.name])}")
    return EXIT_DONE


def _table(jobs: list[StoredJob], sizes: dict[str, int]) -> str:
    rows = [
        (job.name, job.status.phase, size(sizes[job.name]), job.status.model_version or "")
        for job in jobs
    ]
    return table([("job", "phase", "size", "published (stays)"), *rows])


def _agrees(num_jobs: int) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("nobody can be asked without a terminal; give --yes to delete")
    what = counted(num_jobs, "job")
    print(
        f"delete {what} with stages, logs and report? [y/N] ", end="", file=sys.stderr, flush=True
    )
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
