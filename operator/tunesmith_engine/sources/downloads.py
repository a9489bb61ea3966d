"""Downloads into the cache: under a temporary name first, so that a file is whole or not there.

A file's place in the cache is named by its path and its fingerprint: changed content has another
place, and a second job finds what the first one fetched. `remote_store.py` says what there is.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError, missing, translate_error
from tunesmith_engine.sources.local_paths import stays_below
from tunesmith_engine.sources.remote_store import RemoteFile, RemoteStore
from tunesmith_engine.stages.digests import digest_json

LOGGER = logging.getLogger(__name__)
_NAME_DIGITS: Final = 32
_CHUNK_BYTES: Final = 1 << 20
# No folder of data or of a model has as many; a listing is kept in memory.
_MOST_FILES: Final = 100_000
# Of a server that does not say how much it will send, which may be without end.
_MOST_UNTOLD_BYTES: Final = 256 << 30
_GIB: Final = 1 << 30


def download_files(store: RemoteStore, files: Sequence[RemoteFile], *, folder: Path) -> list[Path]:
    """Local copies of `files`, each in a folder of its own below `folder`.

    Raises:
        SourceError: a file cannot be read.
        OSError: this machine's disk is full or not writable.
    """
    for file in files:
        _require_below(store, file.name)
    _require_room(store, files, folder)
    # In a folder of its own each, so that it keeps its name: the suffix says what format it has.
    return [
        _download(store, file, folder / _cache_name(store, [file]) / file.name) for file in files
    ]


def download_folder(store: RemoteStore, files: Sequence[RemoteFile], *, folder: Path) -> Path:
    """One local folder with all `files`, laid out as they are below the store's URI.

    Raises:
        SourceError: a file cannot be read.
        OSError: this machine's disk is full or not writable.
    """
    complete = folder / _cache_name(store, files)
    if complete.exists():
        return complete
    root = store.path.rstrip("/")
    names = [file.path.removeprefix(root).lstrip("/") for file in files]
    # NB: all of them before the first is fetched.
    for name in names:
        _require_below(store, name)
    _require_room(store, files, folder)
    # Files that an earlier, broken attempt finished are kept here, and not fetched again.
    partial = complete.with_name(f"{complete.name}.partial")
    for file, name in zip(files, names, strict=True):
        _download(store, file, partial / name)
    try:
        partial.rename(complete)
    except OSError:
        # Another job was quicker with the same files.
        if not complete.exists():
            raise
        shutil.rmtree(partial, ignore_errors=True)
    return complete


def _require_below(store: RemoteStore, name: str) -> None:
    """Refuse the key of an object that would be written elsewhere on this disk.

    Raises:
        SourceError: it leads out of the folder of what was fetched.
    """
    if not stays_below(name):
        hint = f"the object {name!r} there has a name that leads out of its folder: rename it"
        raise missing(store.uri, role=store.role, hint=hint)


def _require_room(store: RemoteStore, files: Sequence[RemoteFile], folder: Path) -> None:
    """Refuse what cannot be kept, before the first byte of it fills the disk of others.

    Raises:
        SourceError: there are too many files, or they are larger than what is left of the disk.
    """
    if len(files) > _MOST_FILES:
        hint = f"{len(files):,} files are there, at most {_MOST_FILES:,} are fetched; name fewer"
        raise missing(store.uri, role=store.role, hint=hint)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free, wanted = shutil.disk_usage(there).free, sum(file.size or 0 for file in files)
    # What is there already is counted once more; the disk has room for that, too, as a rule.
    if wanted > free:
        raise SourceError(
            Reason.DISK_ESTIMATE_EXCEEDED,
            f"{store.role.name}: {store.uri} has {wanted / _GIB:.1f} GiB, and {there} has "
            f"{free / _GIB:.1f} GiB left; make room there, or give the job a larger workspace.",
        )


def _cache_name(store: RemoteStore, files: Sequence[RemoteFile]) -> str:
    content: list[JsonValue] = [[file.path, file.fingerprint] for file in files]
    digest = digest_json([store.uri.partition("://")[0], *content])
    return digest.removeprefix("sha256:")[:_NAME_DIGITS]


def _download(store: RemoteStore, file: RemoteFile, path: Path) -> Path:
    if path.exists():
        return path
    # Without the query, which of a signed address is a credential.
    LOGGER.info("fetching %s (%s bytes)", file.path.partition("?")[0], file.size or "?")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer: two jobs that fetch the same file do not write into one.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        _copy(store, file, temporary)
        temporary.replace(path)
    except SourceError:
        raise
    except Exception as error:
        raise translate_error(error, uri=store.uri, role=store.role) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _copy(store: RemoteStore, file: RemoteFile, path: Path) -> None:
    with store.filesystem.open(file.path, "rb") as reading, path.open("wb") as writing:
        # One byte more than there should be tells as much as all that a server goes on to send.
        left = _MOST_UNTOLD_BYTES if file.size is None else file.size + 1
        while left > 0 and (chunk := reading.read(min(_CHUNK_BYTES, left))):
            writing.write(chunk)
            left -= len(chunk)
        # NB: before the file gets its final name. Otherwise a loss of power may leave an empty file
        # there, which would count as whole for ever.
        writing.flush()
        os.fsync(writing.fileno())
    num_bytes = path.stat().st_size
    if file.size is None and num_bytes >= _MOST_UNTOLD_BYTES:
        hint = f"its server sends more than {_MOST_UNTOLD_BYTES // _GIB} GiB, and not how much"
        raise missing(store.uri, role=store.role, hint=hint)
    # A connection that breaks may look like the end of the file.
    if file.size is not None and num_bytes < file.size:
        raise SourceError(
            Reason.SOURCE_UNREACHABLE,
            f"{store.uri}: {file.name} came with {num_bytes} of {file.size} bytes.",
            retryable=True,
        )
    if file.size is not None and num_bytes > file.size:
        hint = f"{file.name} came with more than the {file.size} bytes that its server tells of"
        raise missing(store.uri, role=store.role, hint=hint)
