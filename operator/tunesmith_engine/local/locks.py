"""One run of a job or a deployment, one writer of a file: a lock ends with its process.

The kernel holds it for the open file, which no stage inherits. The file stays; only its lock
counts, and its text names the holder for people.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.local.errors import DeploymentBusy, JobBusy, LocalError

# Someone who only asks whether a job runs holds the lock for a moment.
_MOMENT_S: Final = 0.25
_PAUSE_S: Final = 0.05


@contextmanager
def lock_job(path: Path, *, job: str) -> Iterator[None]:
    """Hold the lock within the block.

    Raises:
        JobBusy: another process holds it.
    """
    with _hold(path, refuse=JobBusy, what=f"job '{job}' is being run"):
        yield


@contextmanager
def lock_deployment(path: Path, *, deployment: str) -> Iterator[None]:
    """Hold the lock within the block.

    Raises:
        DeploymentBusy: another process holds it.
    """
    with _hold(path, refuse=DeploymentBusy, what=f"deployment '{deployment}' is being served"):
        yield


@contextmanager
def lock_file(path: Path, *, file: Path, patience_s: float) -> Iterator[None]:
    """Hold the lock at `path` within the block, to write `file`.

    Raises:
        LocalError: another process holds it for so long.
    """
    refuse = partial(LocalError, Reason.RESOURCES_UNAVAILABLE)
    with _hold(path, refuse=refuse, what=f"{file} is written", patience_s=patience_s):
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with path.open("rb") as file:
            # Shared, so that two who ask at once do not take each other for a run.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _try_lock(file: int, *, patience_s: float) -> bool:
    # flock, not lockf: a record lock would end when any other descriptor of the file in this
    # process is closed, as `is_locked` does.
    for _ in range(max(1, round(patience_s / _PAUSE_S))):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return True
    return False


@contextmanager
def _hold(
    path: Path,
    *,
    refuse: Callable[[str], LocalError],
    what: str,
    patience_s: float = _MOMENT_S,
) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # NB: opened without truncating, since the text belongs to whoever holds the lock, and never
    # removed: a second process could lock a new file of that name beside the old one.
    with path.open("a+", encoding="utf-8") as file:
        if not _try_lock(file.fileno(), patience_s=patience_s):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise refuse(
                f"{what} by process {holder}; wait for it, or end it with: kill -INT {holder}"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
