"""A command in a terminal of its own, which can be closed while the command runs."""

import os
import pty
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.05


@dataclass
class Terminal:
    """The near side of a pseudo terminal, and the process that leads the session behind it."""

    pid: int
    descriptor: int
    shown: bytes = b""

    def wait_until(self, holds: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Read what is shown until `holds()`.

        Raises:
            AssertionError: it did not hold in time.
        """
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, f"waited for {what}, saw {self.shown[-2000:]!r}"
            self._read()

    def close(self) -> None:
        """Close the window: the kernel hangs up on the session."""
        os.close(self.descriptor)
        self.descriptor = -1

    def wait(self, *, timeout_s: float) -> int:
        """The exit code, negative for a signal."""
        deadline = time.monotonic() + timeout_s
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, "the command goes on without its terminal"
            time.sleep(_POLL_S)

    def _read(self) -> None:
        ready, _, _ = select.select([self.descriptor], [], [], _POLL_S)
        try:
            self.shown += os.read(self.descriptor, 1 << 16) if ready else b""
        except OSError:  # nobody has the far side open now
            time.sleep(_POLL_S)


def in_session(leader: int) -> dict[int, str]:
    """Number and name of every live process in the session that `leader` opened."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        state, _, _, session, *_ = rest.split()
        if int(session) == leader and state not in "ZX":
            found[int(entry.name)] = name.partition("(")[2]
    return found


@contextmanager
def in_terminal(command: list[str], *, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Start the command, and leave nothing of it behind."""
    pid, descriptor = pty.fork()
    if not pid:
        os.execve(command[0], command, environment)  # noqa: S606 - an argument list, no shell
    terminal = Terminal(pid, descriptor)
    try:
        yield terminal
    finally:
        if terminal.pid:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        if terminal.descriptor >= 0:
            os.close(terminal.descriptor)
