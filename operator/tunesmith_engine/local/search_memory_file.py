"""What searches on this machine remember: HOME/search-memory.jsonl, shared by all jobs.

Appended under a lock. That has a file of its own, for the records' file is replaced when it is made
shorter.
"""

import logging
import os
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.local.errors import LocalError
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.locks import lock_file
from tunesmith_engine.search_memory.records import PastJob
from tunesmith_engine.search_memory.stored_lines import (
    MOST_RECORDS,
    NewerVersionError,
    StoredRecords,
    line_of,
    records_in,
    text_of,
)
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)
# A writer holds the lock for milliseconds.
_PATIENCE_S: Final = 10.0
# Lines of older records of the same jobs, beside those that count, before the file is rewritten.
_MOST_STALE: Final = MOST_RECORDS


def memory_file(home: HomeFolder) -> Path:
    """Where the records lie; the file need not exist."""
    return home.root / "search-memory.jsonl"


def read_memory(path: Path) -> list[PastJob]:
    """All records; none where there is no file.

    Raises:
        LocalError: it was written by a newer release.
    """
    stored = _read(path)
    for line in stored.broken:
        # The last one may be cut off by a crash; it says no more than that a job is forgotten.
        _LOG.warning("%s: line %d is no record and is passed over", path, line)
    return stored.records


def remember(path: Path, record: PastJob, *, patience_s: float = _PATIENCE_S) -> None:
    """Add a record, in place of an older one of the same run.

    Raises:
        LocalError: another process holds the lock, or the file is of a newer release.
        OSError: the file cannot be written.
    """
    lock = path.with_name(f"{path.name}.lock")
    with lock_file(lock, file=path, patience_s=patience_s):
        stored = _read(path)
        if stored.num_lines - len(stored.records) >= _MOST_STALE:
            write_atomically(path, text_of([*stored.records, record][-MOST_RECORDS:]))
            return
        with path.open("ab") as file:
            # NB: what a crash has cut off must not swallow the line that follows it.
            torn = file.tell() and not _ends_a_line(path)
            file.write((b"\n" if torn else b"") + line_of(record).encode())
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path) -> StoredRecords:
    try:
        # A torn line may end within a character.
        return records_in(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return StoredRecords()
    except NewerVersionError as error:
        raise LocalError(Reason.INVALID_SPEC, f"search memory {path}: {error}") from error


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
