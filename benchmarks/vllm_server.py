"""vLLM's server with the replica's middleware, as a process, and requests to it."""

import http.client
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from commands import ROOT

from tunesmith_serving.replica.middleware import MIDDLEWARE
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.settings import ServingSettings

HOST: Final = "127.0.0.1"
MODEL: Final = "helpdesk"
SERVER_PYTHON: Final = ROOT / ".venvs" / "server" / "bin" / "python"
_START_S: Final = 1800.0
_OK: Final = 200
# Linux' clock of another process counts nanoseconds (`clock_getcpuclockid`), /proc hundredths.
_OF_PROCESS: Final = 2


@dataclass(frozen=True, slots=True)
class Server:
    """vLLM's server process, which starts its engine as another."""

    port: int
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """What it has used of the processors so far, by its own clock."""
        return time.clock_gettime(~self.process.pid << 3 | _OF_PROCESS)

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        return json.loads(self._ask("GET", path, None))

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """What `path` answers.

        Raises:
            RuntimeError: with another status than 200.
        """
        return self._ask("POST", path, json.dumps(body))

    def metrics(self) -> str:
        """Prometheus' text."""
        return self._ask("GET", "/metrics", None).decode()

    def _ask(self, method: str, path: str, body: str | None) -> bytes:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=300)
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if response.status != _OK:
            raise RuntimeError(f"{path}: {response.status}: {content[-300:]!r}")
        return content


@contextmanager
def vllm_server(
    folder: Path,
    replica: ReplicaSettings,
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server of the model in `folder`, proven or not: it answers, and need not be ready."""
    port = _quiet_port()
    settings = ServingSettings.model_validate_json((folder / "serving.json").read_bytes())
    own = settings.command_line(folder, name=MODEL, host=HOST, port=port)
    command: list[str | Path] = [SERVER_PYTHON, "-m", "vllm.entrypoints.openai.api_server", *own]
    process = subprocess.Popen(
        [*command, "--middleware", MIDDLEWARE, *options],
        env={
            **os.environ,
            **settings.environment(),
            **replica.environment(),
            **(environment or {}),
        },
        stdout=subprocess.DEVNULL,
    )
    server = Server(port, process)
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def _quiet_port() -> int:
    """A free one that no process gets for a connection of its own, in the minutes of the start."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def _wait(server: Server) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and server.process.poll() is None:
        try:
            server.get("/tunesmith/state")
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"vLLM did not start on port {server.port}")
