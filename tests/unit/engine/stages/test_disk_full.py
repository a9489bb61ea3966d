"""A disk that is full is told from every other crash, whichever library found it out."""

import errno
from pathlib import Path

import pytest

from attempts import request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.entry import run_stage


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Reason.DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Reason.DISK_FULL),
        # What safetensors and torch raise.
        (ValueError("I/O error: No space left on device (os error 28)"), Reason.DISK_FULL),
        (chained(RuntimeError("writing failed"), OSError(errno.ENOSPC, "")), Reason.DISK_FULL),
        (OSError(errno.EACCES, "Permission denied"), Reason.STAGE_CRASHED),
        (chained(ValueError("bad"), KeyError("x")), Reason.STAGE_CRASHED),
        (MemoryError(), Reason.OUT_OF_MEMORY),
    ],
)
def test_the_reason_of_a_crash_is_its_cause(tmp_path: Path, error: Exception, reason: str) -> None:
    places = {"output": str(tmp_path / "out"), "result": str(tmp_path / "result.json")}
    request = request_for("prepare").model_copy(update={**places, "report": str(tmp_path / "p")})

    def stage(*_: object) -> None:
        raise error

    run_stage(stage, request)  # type: ignore[arg-type]
    result = StageResult.model_validate_json((tmp_path / "result.json").read_text())

    assert result.reason == reason
    assert result.retryable
