"""A stage whose workspace is an object store: its pod's disk is empty before it, and gone after it.

What earlier stages made is fetched, proven by digest, and handed to the stage as local files. What
the stage makes is in the store before its result is reported: a result that counts can be read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tunesmith_api.results import Artifact
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.workspace_store import WorkspaceStore
from tunesmith_engine.stages.checkpoint_mirror import CheckpointMirror
from tunesmith_engine.stages.contracts import (
    CHECKPOINTS,
    Reporter,
    StageFunction,
    StageName,
    StageOutcome,
    StageRequest,
    StageResult,
)
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import StageError

_FILE: Final = "file://"


def run_in_store(
    stage: StageFunction, request: StageRequest, reporter: Reporter, *, uri: str
) -> StageOutcome:
    """Run `stage` with the store at `uri` as what outlives this machine.

    Raises:
        StageError: that of the stage, or the store cannot be read or written.
    """
    with _as_stage_errors():
        workspace = _Workspace.opened(uri, request, reporter)
        local = workspace.fetched_inputs()
        mirror = workspace.restored_checkpoints()
    try:
        with mirror.running():
            outcome = stage(local, reporter)
    except StageError as error:
        # A refused model shows its numbers, too.
        if error.findings is not None:
            error.findings = workspace.kept(error.findings)
        raise
    return workspace.kept(outcome)


def place_of(artifact: Artifact, request: StageRequest) -> str:
    """Where the store has an artifact of this attempt: no other attempt ever writes there."""
    path = local_path(artifact)
    suffix = path.suffix if path.is_file() else ""
    return f"{_home(request)}/{request.attempt}/{artifact.name}{suffix}"


def _home(request: StageRequest) -> str:
    return f"{request.stage}/{request.key[:16]}"


@dataclass(frozen=True, slots=True)
class _Workspace:
    """The store of the job, as one attempt of a stage uses it."""

    uri: str
    store: WorkspaceStore
    request: StageRequest
    reporter: Reporter

    @classmethod
    def opened(cls, uri: str, request: StageRequest, reporter: Reporter) -> "_Workspace":
        secret_ref = request.spec.workspace.secret_ref
        secret = read_secret(secret_ref, secrets=Path(request.secrets))
        store = WorkspaceStore(uri, secret=secret, folder=Path(request.cache) / "workspace")
        # Before hours of work whose outcome could not be kept.
        store.check_writable()
        return cls(uri, store, request, reporter)

    def fetched_inputs(self) -> StageRequest:
        """The request as the stage takes it: every artifact a local file."""
        inputs = {name: self._fetched(name, made) for name, made in self.request.inputs.items()}
        return self.request.model_copy(update={"inputs": inputs})

    def restored_checkpoints(self) -> CheckpointMirror:
        self.reporter.progress("looking for checkpoints in the workspace")
        folder = Path(self.request.output) / CHECKPOINTS
        mirror = CheckpointMirror(self.store, f"{_home(self.request)}/{CHECKPOINTS}", folder)
        mirror.restore()
        return mirror

    def kept(self, outcome: StageOutcome) -> StageOutcome:
        """The outcome with its artifacts in the store."""
        with _as_stage_errors():
            artifacts = [self._kept(artifact) for artifact in outcome.artifacts]
        return replace(outcome, artifacts=artifacts)

    def _fetched(self, stage: StageName, made: StageResult) -> StageResult:
        artifacts = [self._here(stage, artifact) for artifact in made.artifacts]
        return made.model_copy(update={"artifacts": artifacts})

    def _here(self, stage: StageName, artifact: Artifact) -> Artifact:
        if not artifact.uri.startswith(f"{self.uri}/"):
            return artifact
        self.reporter.progress(f"fetching {artifact.name} of {stage} from the workspace")
        return artifact.model_copy(update={"uri": self.store.get(artifact).as_uri()})

    def _kept(self, artifact: Artifact) -> Artifact:
        """A published version, which has a place of its own, stays what it is."""
        if not artifact.uri.startswith(_FILE):
            return artifact
        self.reporter.progress(f"keeping {artifact.name} in the workspace")
        uri = self.store.put(local_path(artifact), place_of(artifact, self.request))
        return artifact.model_copy(update={"uri": uri})


@contextmanager
def _as_stage_errors() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise as_stage_error(error) from error
