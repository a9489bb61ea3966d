"""`tunesmith serve`: vLLM on a published model, found by its job or by its folder.

`run --serve` ends here, too. This process becomes `python -m tunesmith_serving serve FOLDER`, for
vLLM lives in an environment of its own.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tunesmith_cli.errors import CommandError
from tunesmith_cli.inputs import find_job
from tunesmith_cli.report.job_data import JobData, read_job_data
from tunesmith_cli.terminal.server_readiness import announce_when_ready, url_of
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.digests import local_path

# Some thirty warnings of vLLM, torch and Python at each start are nothing that a user could mend;
# errors are still told. What is set already wins.
_QUIET: Final = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}


def run(options: argparse.Namespace) -> int:
    """Become the server of the job's model, or of the model in a folder."""
    name, folder = options.model, Path(options.model).expanduser()
    # A name without a separator is a job's, unless only a folder is called so.
    is_folder = "/" in name or (folder.is_dir() and not (options.home / "jobs" / name).is_dir())
    if not is_folder:
        job = find_job(name, root=options.home)
        folder = published_folder(read_job_data(job.folder, job.status))
    return serve_folder(
        folder, host=options.host, port=options.port, public_keys=options.public_key
    )


def published_folder(job: JobData) -> Path:
    """Where the published version of a job's model lies on this machine.

    Raises:
        CommandError: the job has not published, or not on this machine.
    """
    version = job.published
    if version is None:
        raise CommandError(
            f"job '{job.name}' has published no model ({job.status.phase}); run it to its end first"
        )
    if not version.uri.startswith("file://"):
        raise CommandError(
            f"the model of job '{job.name}' lies at {version.uri}; "
            "copy it to this machine and give the folder instead of the job"
        )
    return local_path(version)


def serve_folder(folder: Path, *, host: str, port: int, public_keys: Sequence[Path] = ()) -> int:
    """Replace this process by the server; returns only where that fails."""
    python = Environments.discover().python(Environment.SERVER)
    command = [
        str(python),
        *("-m", "tunesmith_serving", "serve", str(folder)),
        *("--host", host, "--port", str(port)),
        *(word for key in public_keys for word in ("--public-key", str(key.expanduser()))),
    ]
    print(f"starting vLLM on {folder}; it takes a minute or more", file=sys.stderr)
    # NB: exec throws away what Python has buffered, and fork would write it twice.
    sys.stdout.flush()
    sys.stderr.flush()
    announce_when_ready(url_of(host, port))
    # Not a child: signals, exit code and terminal are the server's own.
    os.execve(python, command, {**_QUIET, **os.environ})  # noqa: S606 - an argument list, no shell
