"""A stage whose workspace is an object store: its pod's disk is empty before it, and gone after it.

What earlier stages made is fetched, proven by digest, and handed to the stage as local files. What
the stage makes is in the store before its result is reported: a result that counts can be read.
Of a stage whose workers are apart each worker does so for itself; the first one keeps checkpoints.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
    with as_stage_errors():
        workspace = StageWorkspace.opened(uri, request, reporter.progress)
        # Before hours of work whose outcome could not be kept.
        workspace.store.check_writable()
        local = workspace.fetched_inputs()
        mirrored = nullcontext() if request.apart else workspace.restored_checkpoints().running()
    try:
        with mirrored:
            outcome = stage(local, reporter)
    except StageError as error:
        # A refused model shows its numbers, too.
        if error.findings is not None:
            error.findings = workspace.kept(error.findings)
        raise
    return workspace.kept(outcome)


@dataclass(frozen=True, slots=True)
class StageWorkspace:
    """The store of the job, as one attempt of a stage uses it.

    `home` is the stage's place there, which its attempts share; `own` that of this attempt's
    artifacts, where no other ever writes. `tell` is told what is being done.
    """

    uri: str
    store: WorkspaceStore
    request: StageRequest
    tell: Callable[[str], object]
    home: str
    own: str

    @classmethod
    def opened(
        cls, uri: str, request: StageRequest, tell: Callable[[str], object]
    ) -> "StageWorkspace":
        """Open the store at `uri`.

        Raises:
            SourceError: the secret lacks a key, or the store's driver is not installed.
        """
        secret_ref = request.spec.workspace.secret_ref
        secret = read_secret(secret_ref, secrets=Path(request.secrets))
        store = WorkspaceStore(uri, secret=secret, folder=Path(request.cache) / "workspace")
        home = f"{request.stage}/{request.key[:16]}"
        return cls(uri, store, request, tell, home, f"{home}/{request.attempt}")

    def fetched_inputs(self) -> StageRequest:
        """The request as the stage takes it: every artifact a local file."""
        stored = self.request.stored_inputs or self.request.inputs
        inputs = {name: self._fetched(name, made) for name, made in stored.items()}
        # Only workers of another machine ask where the store has them.
        more = {"stored_inputs": stored} if self.request.apart else {}
        return self.request.model_copy(update={"inputs": inputs, **more})

    def checkpoints(self) -> CheckpointMirror:
        """The checkpoints of the stage, here and in the store."""
        folder = Path(self.request.output) / CHECKPOINTS
        return CheckpointMirror(self.store, self.checkpoints_place, folder)

    @property
    def checkpoints_place(self) -> str:
        """Where the store has the stage's checkpoints."""
        return f"{self.home}/{CHECKPOINTS}"

    def restored_checkpoints(self) -> CheckpointMirror:
        self.tell("looking for checkpoints in the workspace")
        mirror = self.checkpoints()
        mirror.restore()
        return mirror

    def kept(self, outcome: StageOutcome) -> StageOutcome:
        """The outcome with its artifacts in the store."""
        with as_stage_errors():
            artifacts = [self.kept_artifact(artifact) for artifact in outcome.artifacts]
        return replace(outcome, artifacts=artifacts)

    def kept_artifact(self, artifact: Artifact) -> Artifact:
        """The artifact in the store; a published one, which has a place of its own, as it is."""
        if not artifact.uri.startswith(_FILE):
            return artifact
        self.tell(f"keeping {artifact.name} in the workspace")
        path = local_path(artifact)
        suffix = path.suffix if path.is_file() else ""
        uri = self.store.put(path, f"{self.own}/{artifact.name}{suffix}")
        return artifact.model_copy(update={"uri": uri})

    def _fetched(self, stage: StageName, made: StageResult) -> StageResult:
        artifacts = [self._here(stage, artifact) for artifact in made.artifacts]
        return made.model_copy(update={"artifacts": artifacts})

    def _here(self, stage: StageName, artifact: Artifact) -> Artifact:
        if not artifact.uri.startswith(f"{self.uri}/"):
            return artifact
        self.tell(f"fetching {artifact.name} of {stage} from the workspace")
        return artifact.model_copy(update={"uri": self.store.get(artifact).as_uri()})


@contextmanager
def as_stage_errors() -> Iterator[None]:
    """A SourceError as the stage's own."""
    try:
        yield
    except SourceError as error:
        raise as_stage_error(error) from error
