"""The line of an error that a status shows."""

import pytest

from tunesmith_engine.stages.termination_message import termination_message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("KeyError: 'x'", "KeyError: 'x'"),
        ("Traceback:\n  File x\nRuntimeError: no\n", "RuntimeError: no"),
        ("RayTaskError: Traceback\n  File x\nValueError: no\n  note", "ValueError: no"),
        ("  only\n  indented  ", "indented"),
    ],
)
def test_the_last_line_that_is_not_indented_says_most(text: str, line: str) -> None:
    assert termination_message(text) == line
