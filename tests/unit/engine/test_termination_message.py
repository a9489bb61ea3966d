"""What a status shows of a crash: type and place, and none of its words."""

import errno
from collections.abc import Callable
from pathlib import Path
from traceback import format_exc

import pytest

from attempts import request_for
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.entry import run_stage
from tunesmith_engine.stages.termination_message import crash_message, termination_message

SECRET = "hf_0123456789"
LOG = """\
INFO reading
Traceback (most recent call last):
  File "<frozen importlib._bootstrap>", line 1, in f
  File "/opt/x/tunesmith_trainer/data/rows.py", line 12, in read
    json.loads(line)
  File "/usr/lib/python3.11/json/decoder.py", line 355, in decode
{}
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("python: not found", "python: not found"),
        ("INFO reading\nVersionUnusable: no such model", "VersionUnusable: no such model"),
        ("  only\n  indented  ", "indented"),
        # Of a traceback whose frames are cut off.
        (f"KeyError: '{SECRET}'", "KeyError"),
        (f"RayTaskError: Traceback\n  File x\nValueError: {SECRET}\n  note", "ValueError"),
    ],
)
def test_the_last_line_that_is_not_indented_says_most(text: str, line: str) -> None:
    assert termination_message(text) == line


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (f"json.JSONDecodeError: {SECRET}", "JSONDecodeError at {}"),
        (f"ValueError: two\n{SECRET}\n\nlines", "ValueError at {}"),
        ("KeyboardInterrupt", "KeyboardInterrupt at {}"),
        ("ImportError: no module named x", "ImportError: no module named x at {}"),
    ],
)
def test_a_log_that_ends_with_a_traceback_tells_where(said: str, line: str) -> None:
    place = "json/decoder.py:355, from tunesmith_trainer/data/rows.py:12"

    assert termination_message(LOG.format(said)) == line.format(place)


def _raise(error: Exception) -> None:
    raise error


def _fail_in_a_library() -> None:
    int(f"a row of {SECRET}")


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (_fail_in_a_library, "ValueError at engine/test_termination_message.py:"),
        (lambda: _raise(KeyError(SECRET)), "KeyError at engine/"),
        (lambda: _raise(OSError(errno.ENOSPC, SECRET, SECRET)), "OSError: No space left on device"),
        (lambda: _raise(ImportError("no torch\nat all")), "ImportError: no torch at engine/"),
    ],
)
def test_an_exception_tells_the_same(fails: Callable[[], None], told: str) -> None:
    try:
        fails()
    except Exception as error:  # noqa: BLE001 - of any kind
        crash, of_text = crash_message(error), termination_message(format_exc())

    assert crash.startswith(told)
    assert SECRET not in crash + of_text
    assert of_text.rpartition(" at ")[2] == crash.rpartition(" at ")[2]


def test_a_row_in_an_unexpected_error_stays_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: str(tmp_path / name) for name in ("output", "result", "report")}

    def stage(*_: object) -> None:
        _fail_in_a_library()

    run_stage(stage, request_for("prepare").model_copy(update=places))  # type: ignore[arg-type]

    result = StageResult.model_validate_json((tmp_path / "result").read_text())
    assert result.reason == "StageCrashed"
    assert result.message.startswith("ValueError at engine/test_termination_message.py:")
    assert SECRET not in result.model_dump_json()
    assert SECRET in capsys.readouterr().err
