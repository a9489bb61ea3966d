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


def download_files(store: RemoteStore, files: Sequence[RemoteFile], *, folder: Path) -> list[Path]:
    """Local copies of `files`, each in a folder of its own below `folder`.

    Raises:
        SourceError: a file cannot be read.
        OSError: this machine's disk is full or not writable.
    """
    for file in files:
        _require_below(store, file.name)
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
        shutil.copyfileobj(reading, writing, _CHUNK_BYTES)
        # NB: before the file gets its final name. Otherwise a loss of power may leave an empty file
        # there, which would count as whole for ever.
        writing.flush()
        os.fsync(writing.fileno())
    num_bytes = path.stat().st_size
    # A connection that breaks may look like the end of the file.
    if file.size is not None and num_bytes != file.size:
        raise SourceError(
            Reason.SOURCE_UNREACHABLE,
            f"{store.uri}: {file.name} came with {num_bytes} of {file.size} bytes.",
            retryable=True,
        )
