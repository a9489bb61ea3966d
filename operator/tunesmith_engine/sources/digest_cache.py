"""Digests of local files, remembered, so that a second look at gigabytes takes milliseconds.

A remembered digest counts only while path, size and time of change are the same. A file that
changed a moment ago is not remembered: it might change again within one tick of the clock.
"""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_engine.stages.digests import digest_file, digest_json, files_below
from tunesmith_engine.stages.reporter import write_atomically

LOGGER = logging.getLogger(__name__)
_SETTLED_NS: Final = 2_000_000_000


def remembered_digest(path: Path, *, cache: Path) -> str:
    """The digest of the file's bytes, or of every file below a folder and their relative paths.

    Raises:
        OSError: a file cannot be read.
    """
    if path.is_dir():
        content: list[JsonValue] = [
            [each.relative_to(path).as_posix(), _of_file(each, cache=cache)]
            for each in files_below(path)
        ]
        return digest_json(content)
    return _of_file(path, cache=cache)


def _of_file(path: Path, *, cache: Path) -> str:
    # What a link points to counts: the hub's cache is made of links.
    real = path.resolve()
    name = hashlib.sha256(str(real).encode()).hexdigest()
    note = cache / "digests" / f"{name}.json"
    found = real.stat()
    state = [found.st_size, found.st_mtime_ns, found.st_ino]
    digest = _recall(note, state=state)
    if digest is None:
        digest = digest_file(real)
        if time.time_ns() - found.st_mtime_ns > _SETTLED_NS:
            _remember(note, {"path": str(real), "state": [*state], "digest": digest})
    return digest


def _recall(note: Path, *, state: list[int]) -> str | None:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        return str(known["digest"]) if known["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(note: Path, record: JsonValue) -> None:
    try:
        write_atomically(note, json.dumps(record))
    except OSError as error:
        # The digest is right without its note; the next look takes longer, no more.
        LOGGER.warning("the digest of a file could not be noted in %s: %s", note, error.strerror)
