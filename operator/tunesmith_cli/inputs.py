"""What a command line names: a manifest, or a job or a deployment of the home folder.

Found and checked, or refused with a near name. Commands start here.
"""

from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.manifest import (
    ManifestError,
    label_of,
    load_job,
    load_resource,
    read_manifest,
)
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_api.validation_errors import near_match
from tunesmith_cli.errors import CommandError
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.search_space import refuse_unsound_search


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
        job = load_job(text, source=label_of(path))
    except ManifestError as error:
        raise CommandError(str(error)) from error
    try:
        refuse_unsound_search(job.spec)
    except BadInputError as error:
        raise CommandError(f"{label_of(path)}: spec.{error.message}") from error
    # The text is kept as it was written: the home folder stores it with its comments.
    # Of `-` it is the working folder, as of a file that lies in it.
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
    if name in known:
        raise CommandError(
            f"the status of job '{name}' in {home.job(name) / 'status.json'} cannot be read: it is "
            "damaged, or of another release; run the job again: what is done is found and kept"
        )
    hint = _hint(name, known) or "no job was run there; give --home, or run one"
    raise CommandError(f"no job '{name}' in {root}; {hint}")


@dataclass(frozen=True, slots=True)
class StoredDeployment:
    """A deployment that was served here at least once; `status` as it was stored last."""

    name: str
    folder: DeploymentFolder
    deployment: ModelDeployment
    status: ModelDeploymentStatus


def open_deployment(path: Path) -> tuple[ModelDeployment, str]:
    """The deployment that the manifest at `path` describes, and its text.

    Raises:
        CommandError: it is no sound deployment; every problem with file, line, field and remedy.
    """
    try:
        text = read_manifest(path)
        return load_resource(text, ModelDeployment, source=label_of(path)), text
    except ManifestError as error:
        raise CommandError(str(error)) from error


def find_deployment(name: str, *, root: Path) -> StoredDeployment:
    """The deployment called `name` in the home folder `root`.

    Raises:
        CommandError: no deployment of that name was served from this home folder.
    """
    home = HomeFolder(root)
    known = home.list_deployments()
    # NB: looked up before it becomes part of a path, as above.
    if name in known:
        folder = DeploymentFolder.of(home, name)
        deployment = folder.read_deployment()
        if deployment is not None:
            status = folder.read_status() or ModelDeploymentStatus()
            return StoredDeployment(name, folder, deployment, status)
    hint = _hint(name, known) or "none was served there; give --home, or run: tunesmith deploy FILE"
    raise CommandError(f"no deployment '{name}' in {root}; {hint}")


def _hint(name: str, known: list[str]) -> str:
    near = near_match(name, known)
    if near:
        return f"did you mean '{near}'?"
    return f"known: {', '.join(known)}" if known else ""
