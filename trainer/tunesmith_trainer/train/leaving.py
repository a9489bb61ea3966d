"""Leaving a pod or a laptop that is asked back: keep a checkpoint after the step at hand, and go.

Ray trains in a thread, where Python takes no signals, and told to end it was seen to train on until
SIGKILL: steps were lost, and the quota or the machine that was asked back came back that late. So
`python -m tunesmith_trainer.train.leaving` is the preStop hook of Ray's pods; where the stage has a
Ray of its own, `ray_cluster` does the same at SIGTERM. A notice is left, and waited until what
works here has left. `loop` asks for the notice at every step, and `ray_train` before it goes on
with others. NB: neither torch nor Ray is imported here.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.contracts import LEAVING

_NOTICE: Final = "notice"
_BUSY: Final = "busy-"

# Of the 30 s that a pod has from its deletion to SIGKILL, and so has a stage on a laptop.
_WAIT_S: Final = 20.0
# Ray Train asks its workers every two seconds what they have returned.
_TOLD_S: Final = 3.0
_INTERVAL_S: Final = 0.2


class Left(Exception):  # noqa: N818 - nothing went wrong
    """Training was left after `step`, of which there is a checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(f"left after step {step}")
        self.step = step


def is_told_to_leave() -> bool:
    """Whether what works here is to leave."""
    folder = os.environ.get(LEAVING)
    if folder is None:
        return False
    try:
        # NB: the folder outlives the container, which the kubelet may have started again.
        return (Path(folder) / _NOTICE).read_text(encoding="utf-8") == _container()
    except OSError:
        return False


@contextmanager
def waited_for() -> Iterator[None]:
    """Let `leave` wait for the end of the block."""
    folder = os.environ.get(LEAVING)
    if folder is None:
        yield
        return
    busy = Path(folder) / f"{_BUSY}{os.getpid()}"
    busy.parent.mkdir(parents=True, exist_ok=True)
    busy.touch()
    try:
        yield
    finally:
        busy.unlink(missing_ok=True)


def leave(folder: Path) -> bool:
    """Have the processes leave that have this folder, and wait for it; whether any had to."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NOTICE).write_text(_container(), encoding="utf-8")
    give_up = time.monotonic() + _WAIT_S
    was_busy = is_busy = _is_busy(folder)
    while is_busy and time.monotonic() < give_up:
        time.sleep(_INTERVAL_S)
        is_busy = _is_busy(folder)
    return was_busy


def _container() -> str:
    """What tells this run of the container from the one before: when its first process began."""
    try:
        status = Path("/proc/1/stat").read_text(encoding="utf-8")
    except OSError:  # no container: not on Linux, or a machine of many that hides their processes
        return ""
    # The 22nd field; the second one, a name in brackets, may have spaces.
    return status.rpartition(")")[2].split()[19]


def _is_busy(folder: Path) -> bool:
    # A process that was killed leaves its file.
    pids = [path.name.removeprefix(_BUSY) for path in folder.glob(f"{_BUSY}*")]
    return any(Path("/proc", pid).exists() for pid in pids)


if __name__ == "__main__":
    if leave(Path(os.environ[LEAVING])):
        # What a worker returned is told to Ray Train before Ray is gone.
        time.sleep(_TOLD_S)
    # NB: Ray is not stopped here. Its own command ends a pod sooner by SIGTERM than by the loss of
    # its daemons (docs/log.md).
