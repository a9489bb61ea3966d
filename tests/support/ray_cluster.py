"""A cluster of Ray as KubeRay starts one: a head that trains nothing, and a node for each worker.

All run on loopback, each under an address of its own. Jobs are handed over by HTTP with a token, as
KubeRay's HTTPMode does.
"""

import http.client
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command import processes_of
from tunesmith_engine.stages.contracts import LEAVING

HEAD = "127.0.0.2"
WORKERS = ("127.0.0.3", "127.0.0.4")

_START = (str(Path(sys.executable).with_name("ray")), "start")
_LIGHT = (
    "import sys; sys.modules['ray.dashboard.optional_deps'] = None; "
    "from ray.scripts.scripts import main; main()"
)
_TRIES = 5
_OBJECT_STORE = f"--object-store-memory={80 << 20}"


@dataclass(frozen=True, slots=True)
class RayCluster:
    """The dashboard of a running cluster."""

    port: int
    token: str

    def submit(self, *command: str, timeout_s: float = 120) -> str:
        """Start a job as soon as the head takes it; return its id."""
        found = self.ask("/api/jobs/", {"entrypoint": shlex.join(command)}, timeout_s=timeout_s)
        return str(found["submission_id"])

    def wait(self, job: str, *, timeout_s: float) -> str:
        """How the job ended."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            status = str(self._ask(f"/api/jobs/{job}")["status"])
            if status in {"SUCCEEDED", "FAILED", "STOPPED"}:
                return status
            time.sleep(0.2)
        raise AssertionError(f"{job} is not over: {self.logs(job)}")

    def logs(self, job: str) -> str:
        """What the job printed."""
        return str(self._ask(f"/api/jobs/{job}/logs")["logs"])

    def ask(
        self, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 120
    ) -> dict[str, Any]:
        """The answer of the dashboard, as soon as it gives one."""
        give_up = time.monotonic() + timeout_s
        while True:
            try:
                return self._ask(path, body)
            except OSError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.2)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"x-ray-authorization": f"Bearer {self.token}"}
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection = http.client.HTTPConnection(HEAD, self.port, timeout=30)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise OSError(f"{path}: {answer.status} {text}")
        found: dict[str, Any] = json.loads(text)
        return found


@contextmanager
def a_ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """A head and a node for each of two workers; every process has `folder` in its environment."""
    token, port, dashboard = secrets.token_hex(16), _free_port(), _free_port()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")))
        stack.callback(_end_all, folder)
        environment = _environment(folder, home=home, token=token)
        _start_head(environment, home=home, port=port, dashboard=dashboard)
        for address in WORKERS:
            _start_worker(environment, address=address, port=port)
        yield RayCluster(dashboard, token)


def tell_to_leave(folder: Path) -> None:
    """Run the preStop hook of all nodes; nothing ends Ray afterwards."""
    hook = [sys.executable, "-m", "tunesmith_trainer.train.leaving"]
    subprocess.run(hook, env={**os.environ, LEAVING: str(folder / "leaving")}, check=True)


def lose_node(folder: Path, *, address: str) -> None:
    """End the node of a worker at once, and with it what runs there."""
    for pid in processes_of(folder):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"raylet" in command and f"--node_ip_address={address}".encode() in command:
            os.kill(pid, 9)


def _start_head(environment: dict[str, str], *, home: Path, port: int, dashboard: int) -> None:
    """Start the head, anew if Ray gives up on a machine that is busy."""
    own = ("--head", "--num-cpus=0", f"--port={port}", f"--temp-dir={home}/ray")
    ports = (f"--dashboard-host={HEAD}", f"--dashboard-port={dashboard}")
    command = [*_START, *own, *ports, f"--node-ip-address={HEAD}", _OBJECT_STORE]
    folder = Path(environment["TEST_FOLDER"])
    for _ in range(_TRIES):
        with (folder / "ray.log").open("ab") as log:
            done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
        if done.returncode == 0:
            return
        _end_all(folder)
        shutil.rmtree(home / "ray")
    raise AssertionError((folder / "ray.log").read_text()[-2000:])


def _start_worker(environment: dict[str, str], *, address: str, port: int) -> None:
    """Start a node, again if Ray gives up on a machine that is busy.

    Nobody asks its agent, which without the dashboard's parts starts in a fraction of the time.
    """
    own = (f"--address={HEAD}:{port}", f"--node-ip-address={address}", "--num-cpus=1")
    command = shlex.join([sys.executable, "-c", _LIGHT, "start", *own, _OBJECT_STORE])
    with (Path(environment["TEST_FOLDER"]) / "ray.log").open("ab") as log:
        subprocess.Popen(
            ["bash", "-c", f"until {command}; do sleep 1; done"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _environment(folder: Path, *, home: Path, token: str) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TEST_FOLDER": str(folder),
        LEAVING: str(folder / "leaving"),
    }


def _end_all(folder: Path) -> None:
    while found := processes_of(folder):
        for pid in found:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HEAD, 0))
        port: int = found.getsockname()[1]
        return port
