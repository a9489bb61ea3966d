"""A folder of versions on this machine, or on a disk that it has mounted.

A version is completed under a hidden name and renamed: readers see all of it or nothing. Writers of
one folder take turns by a lock that the system releases when they die, so what an earlier one left
under a hidden name is garbage and is removed.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_engine.sources.target import (
    ProgressCallback,
    conflict,
    damaged,
    not_writable,
    not_written,
)
from tunesmith_engine.sources.version_manifest import (
    MANIFEST,
    VersionManifest,
    manifest_of,
    parse_manifest,
)

# Beside its final place, and so on the same file system: a rename across two would be a copy.
_HIDDEN: Final = ".publishing-"
_LOCK: Final = ".publish.lock"
# A person has to mend these; all other faults of the disk are retried.
_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


class LocalTarget:
    """The folder `root`, which is made when the first version comes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri_of(self, name: str) -> str:
        """The file:// URI of the version's folder."""
        return (self._root / name).as_uri()

    def require_writable(self) -> None:
        """See `Target`; nothing is made for it."""
        there = next(path for path in (self._root, *self._root.parents) if path.exists())
        if not there.is_dir():
            raise not_writable(self._root.as_uri(), because=f"{there} is no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise not_writable(self._root.as_uri(), because=f"no right to write to {there}")

    def deliver(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        """See `Target`."""
        try:
            with _locked(self._root):
                if self._is_published(name, manifest=manifest):
                    return False
                self._publish(folder, name, manifest=manifest, progress=progress)
        except OSError as error:
            if error.errno in _RIGHTS:
                because = error.strerror or str(error)
                raise not_written(self.uri_of(name), because=because) from error
            raise
        return True

    def _is_published(self, name: str, *, manifest: VersionManifest) -> bool:
        """Whether the version is there; it is proven again, since it is about to be relied on."""
        place = self._root / name
        if not place.exists():
            return False
        path = place / MANIFEST
        published = parse_manifest(path.read_bytes()) if path.is_file() else None
        if published is None:
            raise conflict(self.uri_of(name), because="exists and is no published version")
        if published.digest() != manifest.digest():
            raise conflict(self.uri_of(name), because="holds a version with other content")
        difference = _difference(published, manifest_of(place))
        if difference:
            raise damaged(self.uri_of(name), because=difference)
        return True

    def _publish(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> None:
        hidden = self._root / f"{_HIDDEN}{name}"
        try:
            for count, file in enumerate([*manifest.files, MANIFEST]):
                progress("copying", count, len(manifest.files) + 1)
                _copy(folder / file, hidden / file)
            progress("reading back", 0, 1)
            difference = _difference(manifest, manifest_of(hidden))
            if difference:
                raise not_written(self.uri_of(name), because=difference)
            # NB: the version exists from here on. Nobody else can have made the place meanwhile:
            # `_is_published` has looked under the same lock.
            hidden.rename(self._root / name)
            _sync_folder(self._root)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    # The lock is of the open file and ends with the process. The file stays: removed, a second
    # writer could lock a new one of that name beside it.
    with (root / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for garbage in root.glob(f"{_HIDDEN}*"):
            shutil.rmtree(garbage, ignore_errors=True)
        yield


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
        # NB: on the disk before the rename, or a loss of power leaves a version of empty files.
        writing.flush()
        os.fsync(writing.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _difference(wanted: VersionManifest, actual: VersionManifest) -> str:
    """What a person needs to know about the first file that differs; empty if none does."""
    for name in sorted(wanted.files.keys() | actual.files.keys()):
        if name not in actual.files:
            return f"{name} is missing"
        if name not in wanted.files:
            return f"{name} was added"
        if wanted.files[name] != actual.files[name]:
            return f"{name} has another content"
    return ""
