"""Stage processes: started in a session of their own, and ended with all that they started.

`process.json` of an attempt tells who it is and, later, how it ended. A run that finds one without
an ending follows a run that was killed; it ends what is left and says Interrupted.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_api.reasons import Reason
from tunesmith_engine.local.home_folder import AttemptFolder
from tunesmith_engine.local.oom_kills import count_oom_kills
from tunesmith_engine.local.process_table import (
    ProcessIdentity,
    belonging_to,
    identify,
    send,
)
from tunesmith_engine.stages.reporter import write_atomically

# Time for a stage to end Ray and its workers, and then for what a dead stage left behind.
STOP_GRACE_S: Final = 20.0
LEFTOVER_GRACE_S: Final = 2.0
_POLL_S: Final = 0.02


class ProcessRecord(ApiModel):
    """`process.json`: `identity` is None if the process was gone before it could be looked at."""

    identity: ProcessIdentity | None = None
    has_ended: bool = False
    exit_code: int | None = None
    cause: Reason | None = None


class StageProcess:
    """One running stage, started by this program."""

    def __init__(
        self, command: Sequence[str], *, folder: AttemptFolder, environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._oom_kills = count_oom_kills()
        self._stop_since: float | None = None
        self._stop_cause: Reason | None = None
        with folder.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
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
        end_leftovers(self._folder.path)
        write_record(
            self._folder,
            ProcessRecord(
                identity=self._identity, has_ended=True, exit_code=code, cause=self._cause(code)
            ),
        )
        return False

    def stop(self, cause: Reason) -> None:
        """Ask the stage to end; once the grace is over, end it and everything it started.

        Returns at once: call it again until `poll` says that nothing runs.
        """
        now = time.monotonic()
        if self._stop_since is None:
            self._stop_since, self._stop_cause = now, cause
            self._signal_group(signal.SIGTERM)
        elif now - self._stop_since > STOP_GRACE_S:
            self.kill()

    def kill(self) -> None:
        """End it and everything it started, without asking."""
        self._stop_cause = self._stop_cause or Reason.INTERRUPTED
        known = [self._identity] if self._identity else []
        for each in belonging_to(self._folder.path, known=known):
            send(each, signal.SIGKILL)
        self._process.wait()

    def _signal_group(self, number: int) -> None:
        # The group's number cannot be another's: this process is not reaped before `poll`.
        if self._process.returncode is None:
            os.killpg(self._process.pid, number)

    def _cause(self, code: int) -> Reason | None:
        if self._stop_cause is not None:
            return self._stop_cause
        if code == -signal.SIGKILL:
            return Reason.HOST_OOM_KILLED if count_oom_kills() > self._oom_kills else Reason.KILLED
        return Reason.KILLED if code == -signal.SIGTERM else None


def end_leftovers(folder: Path, *, known: Iterable[ProcessIdentity] = ()) -> None:
    """End everything that attempts in `folder` have started: asked first, then killed.

    `known` are their recorded processes; one whose number is another's by now is left alone.
    """
    known = tuple(known)
    left = belonging_to(folder, known=known)
    for each in left:
        send(each, signal.SIGTERM)
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = belonging_to(folder, known=known)
    # Again and again, since what is being killed may still start something.
    while left:
        for each in left:
            send(each, signal.SIGKILL)
        time.sleep(_POLL_S)
        left = belonging_to(folder, known=known)


def read_record(folder: AttemptFolder) -> ProcessRecord | None:
    """What is known of the attempt's process; None if none was started."""
    try:
        return ProcessRecord.model_validate_json(folder.process.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        return ProcessRecord()


def write_record(folder: AttemptFolder, record: ProcessRecord) -> None:
    """Store what is known of the attempt's process."""
    write_atomically(folder.process, record.model_dump_json(by_alias=True))
