"""Stage processes: started in a session of their own, and ended with all that they started.

`process.json` of an attempt tells who it is and, later, how it ended. A run that finds one without
an ending follows a run that was killed; it ends what is left and says Interrupted. `executor.py`
starts and polls them, `process_table.py` finds what they have started.
"""

import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_api.reasons import Reason
from tunesmith_engine.local.home_folder import AttemptFolder
from tunesmith_engine.local.process_table import (
    ProcessIdentity,
    count_oom_kills,
    find_processes,
    identify,
    send_signal,
)
from tunesmith_engine.stages.reporter import write_atomically

# Time for a stage to keep a checkpoint and to end Ray and its workers, as long as a pod has by
# default; and then for what a dead stage left behind.
STOP_GRACE_S: Final = 30.0
LEFTOVER_GRACE_S: Final = 2.0
_POLL_S: Final = 0.02


class ProcessRecord(ApiModel):
    """`process.json`: `identity` is None if the process was gone before it could be looked at."""

    identity: ProcessIdentity | None = None
    has_ended: bool = False
    exit_code: int | None = None
    cause: Reason | None = None


@dataclass(frozen=True, slots=True)
class _StopRequest:
    """Why the process was told to end, and when, by the monotonic clock."""

    cause: Reason
    since: float


class StageProcess:
    """One running stage, started by this program."""

    def __init__(
        self, command: Sequence[str], *, folder: AttemptFolder, environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._oom_kills = count_oom_kills()
        self._stop_request: _StopRequest | None = None
        with folder.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # NB: a session of its own. Ctrl-C goes to the terminal's foreground group, and
                # closing the terminal to its session; a stage ends when the run tells it to, so
                # that it can write a checkpoint first.
                start_new_session=True,
            )
        # Killed before the record is written, a run leaves a process that only the marker finds.
        self._identity = identify(self._process.pid)
        write_record(folder, ProcessRecord(identity=self._identity))

    def poll(self) -> bool:
        """Whether it still runs.

        Once it does not, nothing that it started does either, and `process.json` tells how it
        ended.
        """
        code = self._process.poll()
        if code is None:
            return True
        # NB: before the record says that it has ended. The other way round, a run that is killed
        # in between would leave daemons that no later run looks for.
        terminate_leftovers(self._folder.path)
        write_record(
            self._folder,
            ProcessRecord(
                identity=self._identity, has_ended=True, exit_code=code, cause=self._cause(code)
            ),
        )
        return False

    def stop(self, cause: Reason) -> None:
        """Ask the stage to end; once the grace is over, kill it and everything it started.

        Returns at once: call it again until `poll` says that nothing runs.
        """
        if self._stop_request is None:
            self._stop_request = _StopRequest(cause, since=time.monotonic())
            # NB: not its group, in which Ray's daemons are, and their workers end with them: as in
            # a pod, only the stage is told, and it ends what it has started in its own order.
            self._process.terminate()
        elif time.monotonic() - self._stop_request.since > STOP_GRACE_S:
            self.kill()

    def kill(self) -> None:
        """Kill it and everything it started, without asking."""
        if self._stop_request is None:
            self._stop_request = _StopRequest(Reason.INTERRUPTED, since=time.monotonic())
        known = [self._identity] if self._identity else []
        # Not by its group: daemons in sessions of their own are in other groups.
        for identity in find_processes(self._folder.path, known=known):
            send_signal(identity, signal.SIGKILL)
        self._process.wait()

    def _cause(self, code: int) -> Reason | None:
        if self._stop_request is not None:
            return self._stop_request.cause
        if code == -signal.SIGKILL:
            # The kernel kills for want of memory with SIGKILL, as a person may. Its counter is of
            # the whole cgroup, so another victim at the same time could be taken for this one.
            return Reason.HOST_OOM_KILLED if count_oom_kills() > self._oom_kills else Reason.KILLED
        return Reason.KILLED if code == -signal.SIGTERM else None


def terminate_leftovers(folder: Path, *, known: Iterable[ProcessIdentity] = ()) -> None:
    """End everything that attempts in `folder` have started: asked first, then killed.

    `known` are their recorded processes; one whose number is another's by now is left alone.
    """
    known = tuple(known)
    left = find_processes(folder, known=known)
    for identity in left:
        send_signal(identity, signal.SIGTERM)
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = find_processes(folder, known=known)
    # Again and again, since what is being killed may still start something.
    while left:
        for identity in left:
            send_signal(identity, signal.SIGKILL)
        time.sleep(_POLL_S)
        left = find_processes(folder, known=known)


def read_record(folder: AttemptFolder) -> ProcessRecord | None:
    """What is known of the attempt's process; None if none was started."""
    try:
        return ProcessRecord.model_validate_json(folder.process.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        # Torn: something was started, and nobody knows its end. The marker still finds it.
        return ProcessRecord()


def write_record(folder: AttemptFolder, record: ProcessRecord) -> None:
    """Store what is known of the attempt's process."""
    write_atomically(folder.process, record.model_dump_json(by_alias=True))
