"""Downloads into the cache: under a temporary name first, so that a file is whole or not there.

A file's place in the cache is named by its path and its marks: changed content has another place,
and a second job finds what the first one fetched.
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
from tunesmith_engine.sources.errors import SourceError, explained
from tunesmith_engine.sources.remote_store import RemoteFile, RemoteStore
from tunesmith_engine.stages.digests import digest_json

LOGGER = logging.getLogger(__name__)
_PLACE_DIGITS: Final = 32
_CHUNK_BYTES: Final = 1 << 20


def downloaded_files(
    store: RemoteStore, files: Sequence[RemoteFile], *, folder: Path
) -> list[Path]:
    """Local copies of `files`, each in a folder of its own below `folder`.

    Raises:
        SourceError: a file cannot be read.
        OSError: this machine's disk is full or not writable.
    """
    return [_downloaded(store, file, folder / _place_of(store, [file]) / file.name)
            for file in files]  # fmt: skip


def downloaded_folder(store: RemoteStore, files: Sequence[RemoteFile], *, folder: Path) -> Path:
    """One local folder with all `files`, laid out as they are below the store's URI.

    Raises:
        SourceError: a file cannot be read.
        OSError: this machine's disk is full or not writable.
    """
    finished = folder / _place_of(store, files)
    if finished.exists():
        return finished
    # Files that an earlier, broken attempt finished are kept here, and not fetched again.
    growing = finished.with_name(f"{finished.name}.partial")
    root = store.path.rstrip("/")
    for file in files:
        _downloaded(store, file, growing / file.path.removeprefix(root).lstrip("/"))
    try:
        growing.rename(finished)
    except OSError:
        # Another job was quicker with the same files.
        if not finished.exists():
            raise
        shutil.rmtree(growing, ignore_errors=True)
    return finished


def _place_of(store: RemoteStore, files: Sequence[RemoteFile]) -> str:
    content: list[JsonValue] = [[file.path, file.marks] for file in files]
    digest = digest_json([store.uri.partition("://")[0], *content])
    return digest.removeprefix("sha256:")[:_PLACE_DIGITS]


def _downloaded(store: RemoteStore, file: RemoteFile, path: Path) -> Path:
    if path.exists():
        return path
    LOGGER.info("fetching %s (%s bytes)", file.path.partition("?")[0], file.size or "?")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        _copy(store, file, temporary)
        temporary.replace(path)
    except Exception as error:
        raise explained(error, uri=store.uri, role=store.role) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _copy(store: RemoteStore, file: RemoteFile, path: Path) -> None:
    with store.filesystem.open(file.path, "rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
        target.flush()
        os.fsync(target.fileno())
    if file.size is not None and path.stat().st_size != file.size:
        raise SourceError(
            Reason.SOURCE_UNREACHABLE,
            f"{store.uri}: {file.name} came with {path.stat().st_size} of {file.size} bytes.",
            retryable=True,
        )
