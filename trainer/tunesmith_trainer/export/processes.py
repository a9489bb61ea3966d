"""Python processes that the stage starts: the builders, the engines, and the examples."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.errors import is_disk_full

_TOLD_LINES: Final = 3
# Of LiteRT's libraries, which write them also while the process ends.
_LOGGED: Final = re.compile(r"(?:INFO|WARNING|ERROR): \[|[IWE]\d{4} ")
_RAISED: Final = re.compile(r"[\w.]*(?:Error|Exception)\b")


class ProcessFailedError(RuntimeError):
    """A process ended with another code than 0; the message has its last words."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it: that of the kernel, which lacks memory, for one."""
        return self.code < 0


def run_python(arguments: Sequence[str], *, cwd: Path, timeout_s: float | None = None) -> str:
    """What Python printed with these arguments.

    Raises:
        OSError: the disk is full.
        ProcessFailedError: it failed.
        subprocess.TimeoutExpired: it took longer than that.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        # What was built here is what runs: nothing is looked up elsewhere.
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    said = last_words(done.stdout)
    told = f"python {' '.join(arguments[:2])} ended with {done.returncode}: {said}"
    failed = ProcessFailedError(told, code=done.returncode)
    if is_disk_full(failed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from failed
    raise failed


def last_words(output: str) -> str:
    """The error that ended a process, or else its last lines, without what libraries log."""
    lines = [line for line in output.splitlines() if line.strip() and not _LOGGED.match(line)]
    raised = [place for place, line in enumerate(lines) if _RAISED.match(line)]
    begin = raised[-1] if raised else max(0, len(lines) - _TOLD_LINES)
    return " ".join(lines[begin : begin + _TOLD_LINES])
