"""Handing over to the server: this process becomes `python -m tunesmith_serving serve FOLDER`."""

import os
import sys
from pathlib import Path

from tunesmith_cli.errors import Refusal
from tunesmith_cli.report.job_data import Evidence
from tunesmith_cli.summary import published
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.digests import local_path


def published_folder(evidence: Evidence) -> Path:
    """Where the published version of a job's model lies on this machine.

    Raises:
        Refusal: the job has not published, or not on this machine.
    """
    version = published(evidence)
    if version is None:
        raise Refusal(
            f"job '{evidence.name}' has published no model ({evidence.status.phase}); "
            "run it to its end first"
        )
    if not version.uri.startswith("file://"):
        raise Refusal(
            f"the model of job '{evidence.name}' lies at {version.uri}; "
            "copy it to this machine and give the folder instead of the job"
        )
    return local_path(version)


def serve_folder(folder: Path, *, host: str, port: int) -> int:
    """Replace this process by the server; returns only where that fails."""
    python = Environments.discover().python(Environment.SERVER)
    command = [
        str(python),
        *("-m", "tunesmith_serving", "serve", str(folder)),
        *("--host", host, "--port", str(port)),
    ]
    print(f"serving {folder} at http://{host}:{port}/v1", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, command)  # noqa: S606 - an argument list, no shell
