"""What a command line names: the manifest of a job, or a job of the home folder.

Found and checked, or refused with a near name. Commands start here.
"""

from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.manifest import ManifestError, load_job, read_manifest
from tunesmith_api.validation_errors import near_match
from tunesmith_cli.errors import CommandError
from tunesmith_engine.local.home_folder import HomeFolder


@dataclass(frozen=True, slots=True)
class Manifest:
    """A sound manifest: the job, its text, and the folder from which its file:// URIs start."""

    job: FineTuneJob
    text: str
    base: Path


def open_manifest(path: Path) -> Manifest:
    """Read and check the manifest at `path`.

    Raises:
        CommandError: it is no sound job; every problem with file, line, field and remedy.
    """
    try:
        text = read_manifest(path)
        job = load_job(text, source=str(path))
    except ManifestError as error:
        raise CommandError(str(error)) from error
    # The text is kept as it was written: the home folder stores it with its comments.
    return Manifest(job=job, text=text, base=path.resolve().parent)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job that was run here at least once."""

    name: str
    home: HomeFolder
    status: FineTuneJobStatus

    @property
    def folder(self) -> Path:
        return self.home.job(self.name)


def find_job(name: str, *, root: Path) -> StoredJob:
    """The job called `name` in the home folder `root`.

    Raises:
        CommandError: no job of that name was run in this home folder.
    """
    home = HomeFolder(root)
    known = home.list_jobs()
    # NB: looked up in the list before it becomes part of a path: `../../etc` is no job.
    status = home.read_status(name) if name in known else None
    if status is not None:
        return StoredJob(name=name, home=home, status=status)
    near = near_match(name, known)
    if near:
        hint = f"did you mean '{near}'?"
    elif known:
        hint = f"known: {', '.join(known)}"
    else:
        hint = "no job was run there; give --home, or run one"
    raise CommandError(f"no job '{name}' in {root}; {hint}")
