"""From the file that a person names to a job, with its problems worded for the command line."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.manifest import ManifestError, load_job, read_manifest
from tunesmith_cli.errors import Refusal


@dataclass(frozen=True, slots=True)
class Manifest:
    """A sound manifest: the job, its text, and the folder from which its file:// URIs start."""

    job: FineTuneJob
    text: str
    base: Path


def open_manifest(path: Path) -> Manifest:
    """Read and check the manifest at `path`.

    Raises:
        Refusal: it is no sound job; every problem with file, line, field and remedy.
    """
    try:
        text = read_manifest(path)
        job = load_job(text, source=str(path))
    except ManifestError as error:
        raise Refusal(str(error)) from error
    return Manifest(job=job, text=text, base=path.resolve().parent)
