"""Leaving a pod of Ray that is taken away: keep a checkpoint after the step at hand, and go.

In a pod of KubeRay the first process is a shell, which hands no SIGTERM on to Ray: training would
go on until SIGKILL, and the quota or the machine that was asked back would come back that late.
`python -m tunesmith_trainer.train.leaving` is the pods' preStop hook instead. It leaves a notice,
waits until what works here has left, and ends Ray. `loop` asks for the notice at every step, and
`ray_train` before it goes on with others. NB: neither torch nor Ray is imported here.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.contracts import LEAVING

_NOTICE: Final = "notice"
_BUSY: Final = "busy-"

# Of the 30 s that a pod has from its deletion to SIGKILL.
_WAIT_S: Final = 20.0
# Ray Train asks its workers every two seconds what they have returned.
_TOLD_S: Final = 3.0
_STOP_S: Final = 5.0
_INTERVAL_S: Final = 0.2


class Left(Exception):  # noqa: N818 - nothing went wrong
    """Training was left after `step`, of which there is a checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(f"left after step {step}")
        self.step = step


def is_told_to_leave() -> bool:
    """Whether this pod is about to be taken away; never outside of KubeRay's."""
    folder = os.environ.get(LEAVING)
    return folder is not None and (Path(folder) / _NOTICE).exists()


@contextmanager
def waited_for() -> Iterator[None]:
    """Let the hook wait for the end of the block."""
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


def leave(folder: Path) -> None:
    """Have this pod's processes leave, and end Ray."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NOTICE).touch()
    give_up = time.monotonic() + _WAIT_S
    if _is_busy(folder):
        while _is_busy(folder) and time.monotonic() < give_up:
            time.sleep(_INTERVAL_S)
        # What a worker returned is told to Ray Train before Ray is gone.
        time.sleep(_TOLD_S)
    # KubeRay's own command finds it in the same way.
    subprocess.run(["ray", "stop", "--force"], timeout=_STOP_S, check=False)  # noqa: S607


def _is_busy(folder: Path) -> bool:
    # A process that was killed leaves its file.
    pids = [path.name.removeprefix(_BUSY) for path in folder.glob(f"{_BUSY}*")]
    return any(Path("/proc", pid).exists() for pid in pids)


if __name__ == "__main__":
    leave(Path(os.environ[LEAVING]))
