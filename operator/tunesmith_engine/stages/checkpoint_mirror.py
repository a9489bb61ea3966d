"""The checkpoints of a stage, kept in the job's store while the stage runs.

A stage that goes on where an earlier attempt stopped keeps whole folders below `checkpoints/` of
its output, under a name without a dot from the moment they are whole. Those are in the store
seconds later, and those that the stage removes are removed there, too. Where the stage's workers
are apart, the first of them uses this, and looks whenever it has written one.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.version_manifest import VersionManifest, version_files
from tunesmith_engine.sources.workspace_store import WorkspaceStore

LOGGER = logging.getLogger(__name__)
_INTERVAL_S: Final = 3.0

# What tells a folder from another that had its name before.
_Mark = tuple[int, int]


class CheckpointMirror:
    """The whole folders below `folder`, and `place`, where the store has the same ones."""

    def __init__(self, store: WorkspaceStore, place: str, folder: Path) -> None:
        self._store = store
        self._place = place
        self._folder = folder
        self._kept: dict[str, _Mark | None] = {}

    def restore(self) -> None:
        """Fetch what an earlier attempt left; what is not as it was written is passed over.

        Raises:
            SourceError: the store cannot be reached or read.
        """
        snapshots = self._store.list_snapshots(self._place)
        # What only this disk has, no other machine could go on from.
        for path in self._whole():
            if path.name not in snapshots:
                shutil.rmtree(path)
        for name, manifest in snapshots.items():
            if not self._is_fetched(name, manifest):
                LOGGER.warning("%s in the workspace is spoilt, and passed over", name)

    def fetch(self, name: str) -> bool:
        """Have one folder here as the store has it; False if it has not, or not as written.

        Raises:
            SourceError: the store cannot be reached or read.
        """
        manifest = self._store.read_snapshot(f"{self._place}/{name}")
        return manifest is not None and self._is_fetched(name, manifest)

    def finish(self, name: str, parts: VersionManifest) -> None:
        """Complete what has `parts` in the store already with the other files of the folder here.

        Raises:
            SourceError, OSError: it could not be completed.
        """
        folder = self._folder / name
        own = version_files(folder)
        missing = sorted(own.keys() - parts.files.keys())
        place = f"{self._place}/{name}"
        self._store.put_part(folder, missing, place)
        self._store.finish_snapshot(place, VersionManifest(files={**own, **parts.files}))
        self._kept[name] = _mark(folder)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look every few seconds, and once more in the end, also when the stage is told to stop."""
        stopped = Event()
        thread = Thread(target=self._run, args=[stopped], name="checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # The last look comes after the thread has ended, for both change what is kept.
            stopped.set()
            thread.join()
            self.look()

    def look(self) -> None:
        """Bring the store in line; what does not work now is tried again at the next look.

        The oldest goes first: a newer one may name it as the best so far.
        """
        here = {path.name: path for path in self._whole()}
        for name, path in here.items():
            if not self._keep(name, path):
                return
        for name in self._kept.keys() - here.keys():
            self._drop(name)

    def _run(self, stopped: Event) -> None:
        while not stopped.wait(_INTERVAL_S):
            self.look()

    def _is_fetched(self, name: str, manifest: VersionManifest) -> bool:
        target = self._folder / name
        is_here = target.is_dir() and version_files(target) == manifest.files
        if not is_here:
            shutil.rmtree(target, ignore_errors=True)
            is_here = self._store.get_snapshot(f"{self._place}/{name}", manifest, target)
        # Of what is spoilt there is something in the store, too.
        self._kept[name] = _mark(target) if is_here else None
        return is_here

    def _whole(self) -> list[Path]:
        # A leading dot marks what training has not finished writing, or is about to remove.
        marked = [(_mark(path), path) for path in self._folder.glob("[!.]*")]
        whole = [(mark, path) for mark, path in marked if mark is not None]
        return [path for (_, mtime_ns), path in sorted(whole, key=lambda entry: entry[0][1])]

    def _keep(self, name: str, folder: Path) -> bool:
        mark = _mark(folder)
        if mark is None or self._kept.get(name) == mark:
            return True
        # From now on there is something of it in the store.
        self._kept[name] = None
        try:
            self._store.put_snapshot(folder, f"{self._place}/{name}")
        except (SourceError, OSError, ValueError) as error:
            # The stage removes what it no longer needs, also while it is on its way.
            if _mark(folder) == mark:
                LOGGER.warning("%s is not in the workspace yet: %s", name, error)
                return False
            return True
        self._kept[name] = mark
        return True

    def _drop(self, name: str) -> None:
        try:
            self._store.delete_snapshot(f"{self._place}/{name}")
        except (SourceError, OSError) as error:
            LOGGER.warning("%s is still in the workspace: %s", name, error)
        else:
            del self._kept[name]


def _mark(folder: Path) -> _Mark | None:
    try:
        stat = folder.stat()
    except FileNotFoundError:
        return None
    # The name alone does not do: a run that starts again writes `step-10` anew.
    return stat.st_ino, stat.st_mtime_ns
