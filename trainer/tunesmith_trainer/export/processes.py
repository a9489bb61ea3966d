"""Python processes that the stage starts: the builder of ONNX, the engines, and the examples."""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.errors import is_disk_full

_TOLD_LINES: Final = 3


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
    last = " ".join(done.stdout.strip().splitlines()[-_TOLD_LINES:])
    told = f"python {' '.join(arguments[:2])} ended with {done.returncode}: {last}"
    failed = ProcessFailedError(told, code=done.returncode)
    if is_disk_full(failed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from failed
    raise failed
