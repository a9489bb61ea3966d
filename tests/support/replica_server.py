"""A replica's server as a process of its own, vLLM or its stand-in, and how it says it is ready."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openai_wire import WireAnswer, call

SERVER: Final = Path(__file__).parents[2] / ".venvs" / "server" / "bin" / "python"
# Of vLLM on a busy machine.
_START_S: Final = 300


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a process, and the version that it serves."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def is_real(self) -> bool:
        """Whether it is vLLM."""
        return self.process.args[0] == SERVER  # type: ignore[index]


def started(
    command: Sequence[str | Path], environment: Mapping[str, str], port: int, folder: Path
) -> Server:
    """Start it and wait until it is ready."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    server = Server(process, port, folder)
    try:
        wait_for(server, "Ready", seconds=_START_S)
    except BaseException:
        end(server)
        raise
    return server


def end(server: Server) -> None:
    """Its engine process, too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def wait_for(server: Server, reason: str, *, seconds: float = 20) -> WireAnswer:
    """What it says of itself once it does so for this reason."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.process.poll() is None:
        try:
            answer = call(server.port, "/tunesmith/ready")
            if answer.json["reason"] == reason:
                return answer
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"never {reason}")
