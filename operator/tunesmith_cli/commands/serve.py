"""`tunesmith serve`: vLLM on a published model, found by its job or by its folder."""

import argparse
from pathlib import Path

from tunesmith_cli.inputs import find_job
from tunesmith_cli.report.job_data import gather
from tunesmith_cli.servers import published_folder, serve_folder


def run(options: argparse.Namespace) -> int:
    """Become the server."""
    folder = _folder(options.model, home=options.home)
    return serve_folder(folder, host=options.host, port=options.port)


def _folder(given: str, *, home: Path) -> Path:
    """A name without a separator is a job's, unless only a folder is called so."""
    path = Path(given).expanduser()
    if "/" in given or (path.is_dir() and not (home / "jobs" / given).is_dir()):
        return path
    job = find_job(given, home=home)
    return published_folder(gather(job.folder, job.status))
