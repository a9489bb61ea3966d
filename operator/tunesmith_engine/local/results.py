"""Which results count: one that can be read, is of this very stage, and whose artifacts are there.

Artifacts are looked at, not digested: a second run of a job must not read gigabytes. A size that
differs from the recorded one is a broken artifact; what lies elsewhere than on this machine is
taken on trust, and read by whoever needs it.
"""

import logging
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api.results import Artifact
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.digests import files_below, local_path

_LOG = logging.getLogger(__name__)


def read_result(path: Path) -> StageResult | None:
    """The result in a file; None if there is none, or it is none."""
    try:
        return StageResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        _LOG.warning("%s is no result and does not count: %s", path, error)
        return None


def sound_result(path: Path, *, stage: str, key: str) -> StageResult | None:
    """The result in a file, if the stage succeeded and all it made is still there."""
    result = read_result(path)
    if result is None:
        return None
    if (result.stage, result.key) != (stage, key):
        _LOG.warning("%s is of %s %s: it does not count", path, result.stage, result.key)
        return None
    if result.outcome != "Succeeded":
        return None
    broken = [fault for each in result.artifacts if (fault := _fault(each))]
    if broken:
        _LOG.warning("%s does not count: %s", path, "; ".join(broken))
        return None
    return result


def _fault(artifact: Artifact) -> str | None:
    if not artifact.uri.startswith("file://"):
        return None
    path = local_path(artifact)
    if not path.exists():
        return f"{path} is gone"
    size = _size(path)
    if size != artifact.bytes:
        return f"{path} has {size:,} bytes instead of {artifact.bytes:,}"
    return None


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(each.stat().st_size for each in files_below(path))
    return path.stat().st_size
