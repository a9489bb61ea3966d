"""What searches of a cluster remember: one object a job, below a prefix that its jobs share.

No lock is needed: a job writes its own object and no other, whole, and what it wrote before under
the same name is the same run. Each is a line of `stored_lines`, in an object store or in a folder
of a volume that jobs share.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import fsspec

from tunesmith_engine.search_memory.records import PastJob
from tunesmith_engine.search_memory.stored_lines import (
    MOST_RECORDS,
    NewerVersionError,
    line_of,
    records_in,
)
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import translate_error
from tunesmith_engine.sources.remote_store import open_store
from tunesmith_engine.sources.workspace_store import WORKSPACE
from tunesmith_engine.stages.digests import path_of
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)
_FILE: Final = "file://"
_SUFFIX: Final = ".jsonl"
# Of a digest, as many digits as tell runs apart.
_DIGITS: Final = 32


class SearchMemoryObjects:
    """The records below `uri`; every method raises a SourceError where the store cannot be used."""

    def __init__(self, uri: str, *, secret: Secret) -> None:
        """Open the store.

        Raises:
            SourceError: the secret lacks a key, or the store's driver is not installed.
        """
        self._uri = uri.rstrip("/")
        self._is_local = uri.startswith(_FILE)
        self._files: Any = (
            fsspec.filesystem("file")
            if self._is_local
            else open_store(uri, secret=secret, role=WORKSPACE).filesystem
        )

    def read(self) -> list[PastJob]:
        """The records of the latest jobs, the latest last; what is no record is passed over."""
        with self._translating_errors():
            found = self._found()
            if not found:
                return []
            texts = self._files.cat(found, on_error="omit")
        return [record for path in found if path in texts for record in _records(path, texts[path])]

    def remember(self, record: PastJob) -> None:
        """Write a job's object, in place of an older one of the same run."""
        name = f"{hashlib.sha256(record.uid.encode()).hexdigest()[:_DIGITS]}{_SUFFIX}"
        with self._translating_errors():
            if self._is_local:
                write_atomically(path_of(self._uri) / name, line_of(record))
            else:
                path = self._files._strip_protocol(f"{self._uri}/{name}")  # noqa: SLF001 - fsspec's hook
                self._files.pipe_file(path, line_of(record).encode())

    def _found(self) -> list[str]:
        """Paths of the latest objects, the oldest first."""
        root = str(path_of(self._uri)) if self._is_local else self._uri
        try:
            infos = self._files.find(root, detail=True)
        except FileNotFoundError:
            return []
        paths = [path for path in infos if Path(path).suffix == _SUFFIX]
        return sorted(paths, key=lambda path: (_changed(infos[path]), path))[-MOST_RECORDS:]

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise translate_error(error, uri=self._uri, role=WORKSPACE) from error


def _changed(info: dict[str, Any]) -> str:
    """When an object was written, as text that sorts; each kind of store calls it otherwise."""
    known = (info.get(name) for name in ("LastModified", "updated", "last_modified", "mtime"))
    return str(next((each for each in known if each is not None), ""))


def _records(path: str, text: bytes) -> list[PastJob]:
    try:
        # NB: passed over, not refused: nothing that a newer release wrote is ever written over.
        return records_in(text.decode(errors="replace")).records
    except NewerVersionError as error:
        _LOG.warning("%s is passed over: %s", path, error)
        return []
