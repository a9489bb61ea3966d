"""A folder of versions on this machine, or on a disk that it has mounted.

A version is completed under a hidden name and renamed: readers see all of it or nothing. Writers of
one folder take turns by a lock that the system releases when they die, so what an earlier one left
under a hidden name is rubbish and is swept.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_engine.sources.target import Say
from tunesmith_engine.sources.target_errors import conflict, damaged, not_written
from tunesmith_engine.sources.version_manifest import (
    MANIFEST,
    VersionManifest,
    manifest_of,
    parse_manifest,
)

_HIDDEN: Final = ".publishing-"
_LOCK: Final = ".publish.lock"
_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


class LocalTarget:
    """The folder `root`, which is made when the first version comes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri_of(self, name: str) -> str:
        """The file:// URI of the version's folder."""
        return (self._root / name).as_uri()

    def deliver(self, folder: Path, name: str, *, manifest: VersionManifest, say: Say) -> bool:
        """See `Target`."""
        try:
            with _alone_in(self._root):
                if self._has(name, manifest=manifest):
                    return False
                self._write(folder, name, manifest=manifest, say=say)
        except OSError as error:
            if error.errno in _RIGHTS:
                raise not_written(
                    self.uri_of(name), because=error.strerror or str(error)
                ) from error
            raise
        return True

    def _has(self, name: str, *, manifest: VersionManifest) -> bool:
        """Whether the version is there; it is proven again, since it is about to be relied on."""
        place = self._root / name
        if not place.exists():
            return False
        path = place / MANIFEST
        found = parse_manifest(path.read_bytes()) if path.is_file() else None
        if found is None:
            raise conflict(self.uri_of(name), because="exists and is no published version")
        if found.digest() != manifest.digest():
            raise conflict(self.uri_of(name), because="holds a version with other content")
        changed = _difference(found, manifest_of(place))
        if changed:
            raise damaged(self.uri_of(name), because=changed)
        return True

    def _write(self, folder: Path, name: str, *, manifest: VersionManifest, say: Say) -> None:
        hidden = self._root / f"{_HIDDEN}{name}"
        try:
            for count, file in enumerate([*manifest.files, MANIFEST]):
                say("copying", count, len(manifest.files) + 1)
                _copy(folder / file, hidden / file)
            say("reading back", 0, 1)
            self._prove(hidden, name, manifest=manifest)
            hidden.rename(self._root / name)
            _sync_folder(self._root)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def _prove(self, hidden: Path, name: str, *, manifest: VersionManifest) -> None:
        changed = _difference(manifest, manifest_of(hidden))
        if changed:
            raise not_written(self.uri_of(name), because=changed)


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for rubbish in root.glob(f"{_HIDDEN}*"):
            shutil.rmtree(rubbish, ignore_errors=True)
        yield


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
        writing.flush()
        os.fsync(writing.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _difference(wanted: VersionManifest, found: VersionManifest) -> str:
    """What a person needs to know about the first file that differs; empty if none does."""
    for name in sorted(wanted.files.keys() | found.files.keys()):
        if name not in found.files:
            return f"{name} is missing"
        if name not in wanted.files:
            return f"{name} was added"
        if wanted.files[name] != found.files[name]:
            return f"{name} has another content"
    return ""
