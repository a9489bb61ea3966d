"""One replica: an engine's process on a port of its own, from its start to the end of its drain.

Its folder tells a later `tunesmith deploy` all it needs to take the process over; so does the
marker in its environment, where the record was not written in time (`process_table.py`).
"""

import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.adapter_hosts import adapter_states, name_on
from tunesmith_engine.deployment.adapter_list import AdapterList
from tunesmith_engine.deployment.observations import DesiredRevision, ReplicaState
from tunesmith_engine.deployment.replica_report import WRONG_ANSWERS, ReadyReason, ReplicaReport
from tunesmith_engine.local.deployment.deployment_folder import ReplicaFolder, ReplicaRecord
from tunesmith_engine.local.deployment.replica_client import (
    put_adapters,
    read_state,
    start_draining,
)
from tunesmith_engine.local.process_table import identify, is_alive, send_signal
from tunesmith_engine.local.processes import terminate_leftovers
from tunesmith_engine.stages.entry import EXIT_BAD_INPUT

# vLLM is given 10 s to end what runs after SIGTERM, and takes some more to go.
KILL_AFTER_S: Final = 20.0
# After which one that has answered before, and no longer does, is taken for one that hangs.
SILENT_S: Final = 60.0
# Between a crash and the next start: twice as long each time, but never longer.
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
# A request that the proxy had sent off before it knew has arrived by then.
_QUIET_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How an engine is started: its command and its whole environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


# Takes the port to listen on, and that of the replica to compare with, if there is one.
Launcher = Callable[[DesiredRevision, ReplicaFolder, int, int | None], Launch]


class Replica:
    """A replica that has been started at least once; every `now` is of one monotonic clock."""

    def __init__(self, folder: ReplicaFolder, record: ReplicaRecord) -> None:
        self.folder = folder
        self.is_told_to_drain = False
        self._record = record
        # Only whoever started it can tell how it ended.
        self._process: subprocess.Popen[bytes] | None = None
        self._report: ReplicaReport | None = None
        self._heard_at: float | None = None
        self._ended_at: float | None = None
        self._stop_since: float | None = None
        self._term_since: float | None = None
        self._last_words = ""

    @property
    def port(self) -> int:
        return self._record.port

    @property
    def is_running(self) -> bool:
        """Whether nobody has seen its end yet."""
        return self._record.identity is not None or self._process is not None

    @property
    def is_reachable(self) -> bool:
        return self._report is not None

    @property
    def report(self) -> ReplicaReport | None:
        """What it said of itself at the last look; None if it did not answer."""
        return self._report

    @property
    def is_stopping(self) -> bool:
        return self._stop_since is not None

    @property
    def is_ready(self) -> bool:
        return self._report is not None and self._report.ready and not self.is_stopping

    def start(self, launch: Launch, *, port: int) -> None:
        """Start the engine, for the first time or again."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with self.folder.log.open("ab") as log:
            self._process = subprocess.Popen(
                launch.command,
                cwd=self.folder.path,
                env=launch.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # NB: Ctrl-C and a closed terminal are for `tunesmith deploy`, which drains first.
                start_new_session=True,
            )
        self._keep(port=port, identity=identify(self._process.pid), exit_code=None)
        self._report = self._heard_at = self._ended_at = None
        self._stop_since = self._term_since = None
        self.is_told_to_drain = False

    def start_again(self, launch: Launch, *, port: int, now: float) -> None:
        """Start the engine again, unless it ended only a moment ago."""
        pause = min(_FIRST_PAUSE_S * 2**self._record.restarts, _LONGEST_PAUSE_S)
        if self._ended_at is not None and now - self._ended_at < pause:
            return
        self._keep(restarts=self._record.restarts + 1)
        self.start(launch, port=port)

    def observe(self, now: float) -> None:
        """See whether it runs, and ask it how it is."""
        identity, process = self._record.identity, self._process
        if identity is None and process is None:
            return
        # One that ended before it could be identified has a process, and no identity.
        if identity is None or not is_alive(identity):
            # What vLLM has started must not hold the memory that the next start needs.
            terminate_leftovers(self.folder.path)
            self._report, self._ended_at, self._process = None, now, None
            self._keep(identity=None, exit_code=process.wait() if process else None)
            return
        report = read_state(self.port)
        self._report = report if report and report.revision == self.folder.revision else None
        if self._report is not None:
            self._heard_at = now
            # By whoever was here before, perhaps.
            self.is_told_to_drain = self.is_told_to_drain or self._report.draining

    def state(self) -> ReplicaState:
        """The replica as `advance` reads it."""
        report = self._report
        return ReplicaState(
            name=self.folder.name,
            revision=self.folder.revision,
            is_ready=self.is_ready,
            is_reachable=report is not None,
            running=report.running if report else None,
            accepted=report.accepted if report else None,
            quiet_seconds=report.quiet_seconds if report else None,
            restarts=self._record.restarts,
            failure=self._failure(),
            message=self._message(),
            is_stopping=self.is_stopping,
            probe=report.probe if report else None,
        )

    def states(self, adapters: Iterable[str]) -> tuple[ReplicaState, ...]:
        """The same for each of the adapters that it is to hold; `state` where it holds none."""
        return adapter_states(self.state(), self._report, adapters)

    def name_of(self, revision: str) -> str:
        """Its name as a replica of that revision, which may be an adapter that it holds."""
        name = self.folder.name
        return name if revision == self.folder.revision else name_on(name, revision)

    def hold(self, adapters: AdapterList) -> None:
        """Tell it what to hold, unless it was told so already."""
        if self._report is not None and self._report.adapter_list != adapters:
            put_adapters(self.port, adapters)

    def end_if_hung(self, now: float) -> None:
        """Kill an engine that runs and does not get on; it is started again as a crashed one."""
        is_silent = self._heard_at is not None and now - self._heard_at > SILENT_S
        has_stopped = self._report is not None and self._report.reason == ReadyReason.NO_PROGRESS
        if self.is_running and (is_silent or has_stopped):
            message = self._report.message if self._report else f"no answer for {SILENT_S:.0f} s"
            self._last_words = f"it was ended since it hung: {message}"
            self.kill()

    def drain(self) -> None:
        """Tell it, once, that nothing more will come."""
        if not self.is_told_to_drain and self.is_running:
            self.is_told_to_drain = True
            start_draining(self.port)

    def stop(self, *, patience_s: float, now: float) -> None:
        """The next step of its end; call it again until it does not run.

        Requests under way have `patience_s` to end; then SIGTERM, and at last SIGKILL.
        """
        if self._stop_since is None:
            self._stop_since = now
        self.drain()
        identity = self._record.identity
        if identity is None:
            return
        if self._term_since is None:
            report = self._report
            is_idle = report and not report.running and report.quiet_seconds >= _QUIET_S
            if is_idle or now - self._stop_since >= patience_s:
                self._term_since = now
                send_signal(identity, signal.SIGTERM)
        elif now - self._term_since > KILL_AFTER_S:
            self.kill()

    def kill(self) -> None:
        """End it and all that it has started, without asking twice."""
        if self._record.identity is not None:
            send_signal(self._record.identity, signal.SIGKILL)
        terminate_leftovers(self.folder.path)

    def _keep(self, **changes: object) -> None:
        self._record = self._record.model_copy(update=changes)
        self.folder.write(self._record)

    def _failure(self) -> str | None:
        if self._report is not None and self._report.reason in WRONG_ANSWERS:
            return self._report.reason
        # Twice, since a port that was taken between two looks is refused with the same code.
        is_refused = self._record.exit_code == EXIT_BAD_INPUT and self._record.restarts > 0
        return Reason.VERSION_UNUSABLE if is_refused else None

    def _message(self) -> str:
        report = self._report
        if report is not None:
            # A failure has the reason for its name.
            named = "" if report.reason in WRONG_ANSWERS else f"{report.reason}: "
            return "" if report.ready else f"{named}{report.message}"
        if self.is_running:
            return self._last_words or "the engine starts"
        ended = f"ended with exit code {self._record.exit_code}"
        return f"{self._last_words or ended}; see {self.folder.log}"


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
