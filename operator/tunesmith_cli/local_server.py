"""The server environment's vLLM on one published version, for as long as a command needs it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_cli.errors import EXIT_FAILED, CommandError
from tunesmith_cli.terminal.style import plain
from tunesmith_engine.deployment.replica_report import WRONG_ANSWERS
from tunesmith_engine.local.deployment.replica_client import read_state
from tunesmith_engine.local.environments import Environments, stage_variables
from tunesmith_engine.local.processes import terminate_leftovers
from tunesmith_engine.stages.contracts import Environment

_HOST: Final = "127.0.0.1"
# Compiling a model for a CPU takes minutes (`serving.enforceEager: false`).
_READY_S: Final = 900.0
_LOOK_S: Final = 0.5
_STOP_S: Final = 20.0


@contextmanager
def served_version(folder: Path, *, model: str, say: Callable[[str], None]) -> Iterator[str]:
    """Serve the version in `folder` under the name `model` within the block; its base URL.

    Raises:
        CommandError: the server ended before it was ready, does not answer as the version did when
            it was verified, or is not ready in time.
        EnvironmentMissing: vLLM is not installed.
    """
    python, port = Environments.discover().python(Environment.SERVER), _free_port()
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as place:
        log = Path(place) / "log.txt"
        command = [
            str(python),
            *("-m", "tunesmith_serving", "serve", str(folder)),
            *("--host", _HOST, "--port", str(port), "--name", model),
        ]
        say(f"starting vLLM on {folder}, which takes a minute or two")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=stage_variables(os.environ, attempt=Path(place)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the command, which ends the server itself.
                start_new_session=True,
            )
        try:
            _wait_until_ready(process, port=port, log=log)
            yield f"http://{_HOST}:{port}/v1"
        finally:
            _end(process)
            terminate_leftovers(Path(place))


def _wait_until_ready(process: subprocess.Popen[bytes], *, port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        state = read_state(port)
        if state is not None and state.ready:
            return
        if state is not None and state.reason in WRONG_ANSWERS:
            raise CommandError(f"the server cannot be trusted: {state.message}", code=EXIT_FAILED)
        if process.poll() is not None:
            raise CommandError(
                f"the server has ended with {process.returncode}: {_last_line(log)}; "
                "tunesmith serve shows all that it says",
                code=EXIT_FAILED,
            )
        if time.monotonic() > deadline:
            raise CommandError(
                f"the server is not ready after {_READY_S:.0f} s: {_last_line(log)}",
                code=EXIT_FAILED,
            )
        time.sleep(_LOOK_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return plain(lines[-1]) if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
