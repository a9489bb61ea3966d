"""Digests of local files, remembered, so that a second look at gigabytes takes milliseconds.

A remembered digest counts only while path, size, time of change and inode are the same.
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


def cached_digest(path: Path, *, cache: Path) -> str:
    """The digest of the file's bytes, or of every file below a folder and their relative paths.

    Raises:
        OSError: a file cannot be read.
    """
    if path.is_dir():
        content: list[JsonValue] = [
            [file.relative_to(path).as_posix(), _digest_of_file(file, cache=cache)]
            for file in files_below(path)
        ]
        return digest_json(content)
    return _digest_of_file(path, cache=cache)


def _digest_of_file(path: Path, *, cache: Path) -> str:
    # What a link points to counts: the hub's cache is made of links.
    real = path.resolve()
    note = cache / "digests" / f"{hashlib.sha256(str(real).encode()).hexdigest()}.json"
    # NB: before the file is read. A change while it is read gives the next look another state.
    stat = real.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["state"] == state:
            return str(known["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        # None yet, or one that cannot be read: the file itself is there.
        pass
    digest = digest_file(real)
    # NB: a file that changed a moment ago is not remembered. It could change once more within one
    # tick of the file system's clock, at the same size, and look the same.
    if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
        try:
            record = {"path": str(real), "state": state, "digest": digest}
            write_atomically(note, json.dumps(record))
        except OSError as error:
            # The digest is right without its note; the next look takes longer, no more.
            LOGGER.warning("a digest could not be noted in %s: %s", note, error.strerror)
    return digest
