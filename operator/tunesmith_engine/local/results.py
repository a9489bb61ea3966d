"""Which results count: one that can be read, is of this very stage, and whose artifacts are there.

Sizes and times first: a second run of a job must not read gigabytes. A size that differs from the
recorded one is a broken artifact; one with a file that was written after the result is digested.
What lies elsewhere than on this machine is taken on trust, and read by whoever needs it.
"""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api.results import Artifact
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.digests import digest_file, digest_tree, files_below, local_path

_LOG = logging.getLogger(__name__)

# Inode, time of change in ns, and size: `write_atomically` gives each new content another inode.
_Stamp = tuple[int, int, int]


class ResultCache:
    """Results as `valid_result` has them, each looked at again only when its file has changed.

    An executor looks several times a second, and an artifact may be thousands of files. One that
    goes missing in the middle of a run is noticed by the stage that reads it, or by the next run.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Stamp, StageResult | None]] = {}

    def valid_result(self, path: Path, *, stage: str, key: str) -> StageResult | None:
        """See the function of this name."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        # NB: taken before the file is read. If it is replaced in between, the old stamp stands
        # beside the new content, and the next look reads it once more.
        stamp = stat.st_ino, stat.st_mtime_ns, stat.st_size
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = stamp, valid_result(path, stage=stage, key=key)
            self._known[path] = known
        return known[1]


def read_result(path: Path) -> StageResult | None:
    """The result in a file; None if there is none, or it is none."""
    try:
        return StageResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        # Torn by a crash of the machine, or of another release.
        _LOG.warning("%s is no result and does not count: %s", path, error)
        return None


def valid_result(path: Path, *, stage: str, key: str) -> StageResult | None:
    """The result in a file, if the stage succeeded and all it made is still there."""
    result = read_result(path)
    if result is None:
        return None
    # A folder is named by 16 digits of the key; the result has all of them.
    if (result.stage, result.key) != (stage, key):
        _LOG.warning("%s is of %s %s: it does not count", path, result.stage, result.key)
        return None
    if result.outcome != "Succeeded":
        return None
    written_ns, now_ns = path.stat().st_mtime_ns, time.time_ns()
    newer = [artifact for artifact in result.artifacts if _is_newer(artifact, than_ns=written_ns)]
    faults = [fault for artifact in result.artifacts if (fault := _fault(artifact))]
    faults = faults or [f"{local_path(each)} was changed" for each in newer if _is_changed(each)]
    if faults:
        _LOG.warning("%s does not count: %s", path, "; ".join(faults))
        return None
    if newer:
        # So that the next look digests nothing. A home folder that others own is only read.
        with suppress(OSError):
            os.utime(path, ns=(now_ns, now_ns))
    return result


def _is_newer(artifact: Artifact, *, than_ns: int) -> bool:
    """Whether a file of an artifact on this machine was written after that time."""
    # NB: of modification, not of change: `publish` links the files, which changes the latter.
    return any(file.stat().st_mtime_ns > than_ns for file in _files_of(artifact))


def _is_changed(artifact: Artifact) -> bool:
    path = local_path(artifact)
    return (digest_tree(path) if path.is_dir() else digest_file(path)) != artifact.digest


def _files_of(artifact: Artifact) -> list[Path]:
    """The files of an artifact on this machine; none where it lies elsewhere, or is gone."""
    if not artifact.uri.startswith("file://"):
        return []
    path = local_path(artifact)
    return [path] if path.is_file() else files_below(path)


def _fault(artifact: Artifact) -> str | None:
    """What is wrong with an artifact on this machine."""
    if not artifact.uri.startswith("file://"):
        return None
    path = local_path(artifact)
    if not path.exists():
        return f"{path} is gone"
    size = sum(file.stat().st_size for file in _files_of(artifact))
    if size != artifact.bytes:
        return f"{path} has {size:,} bytes instead of {artifact.bytes:,}"
    return None
