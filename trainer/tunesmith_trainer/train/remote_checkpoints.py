"""Checkpoints of workers that share no folder: what counts is in the job's object store.

The first worker keeps its own disk and the store alike; `train_state` says when. Of a sharded model
every worker uploads its part, and the first one then makes the checkpoint exist by its manifest.
What any other worker goes on from, it fetches.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import distributed
from torch.distributed import ProcessGroup

from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.version_manifest import (
    VersionFile,
    VersionManifest,
    version_files,
)
from tunesmith_engine.sources.workspace_store import WorkspaceStore
from tunesmith_engine.stages.checkpoint_mirror import CheckpointMirror
from tunesmith_trainer.train.fencing import Fence

log = logging.getLogger(__name__)

# What a worker tells the others: the files of its part, or what has gone wrong.
_Told = dict[str, VersionFile] | str


class RemoteCheckpoints:
    """The checkpoints below `folder` of this disk and at `place` in the store.

    Every method but the constructor raises an OSError where the store does not do as asked, and
    those that write there a FencedError if `fence` is another's by now.
    """

    def __init__(self, store: WorkspaceStore, *, place: str, folder: Path, fence: Fence) -> None:
        self._store = store
        self._fence = fence
        self._place = place
        self._folder = folder
        self._mirror = CheckpointMirror(store, place, folder)
        self._writes = False
        self._parts: dict[str, VersionFile] = {}

    def begin(self) -> None:
        """Be the one who writes, and have here what the store has."""
        self._writes = True
        with _as_os_error():
            self._mirror.restore()

    def fetch(self, step: int) -> None:
        """Have the checkpoint of `step` here, whole."""
        name = _name(step)
        if not self._writes:
            # Whoever does not write needs no other, nor what was cut off.
            for other in self._folder.glob("*"):
                if other.name != name:
                    shutil.rmtree(other)
        with _as_os_error():
            if not self._mirror.fetch(name):
                raise OSError(f"the workspace has no whole checkpoint of step {step}")

    def keep(self) -> None:
        """Bring the store in line with this disk; what cannot be kept is tried again next time."""
        try:
            self._fence.check()
        except SourceError as error:
            log.warning("the newest checkpoint is not in the workspace yet: %s", error)
            return
        self._mirror.look()

    def clear(self, step: int) -> None:
        """Make room in the store for the parts of a checkpoint."""
        with _as_os_error():
            self._fence.check()
            self._store.delete_snapshot(f"{self._place}/{_name(step)}")

    def put_part(self, step: int, folder: Path, *, group: ProcessGroup) -> None:
        """Upload what this worker has in `folder`; return when every worker of `group` has.

        NB: a collective, and so is its failure: one that cannot upload tells the others.
        """
        told: list[_Told | None] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(told, self._uploaded(step, folder), group=group)
        failures = [one for one in told if isinstance(one, str)]
        if failures:
            raise OSError(f"the checkpoint of step {step} is not in the workspace: {failures[0]}")
        parts = [one for one in told if isinstance(one, dict)]
        self._parts = {name: file for part in parts for name, file in part.items()}

    def finish(self, step: int) -> None:
        """Let the checkpoint exist whose parts were put; the rest of it is on this disk."""
        with _as_os_error():
            # NB: right before it. A writer of the time before may be at the same step.
            self._fence.check()
            self._mirror.finish(_name(step), VersionManifest(files=self._parts))

    def _uploaded(self, step: int, folder: Path) -> _Told:
        try:
            files = version_files(folder)
            self._store.put_part(folder, files, f"{self._place}/{_name(step)}")
        except (SourceError, OSError) as error:
            return str(error)
        return files


def _name(step: int) -> str:
    return f"step-{step}"


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise OSError(error.message) from error
