"""The `tunesmith` command as a user runs it: a process of its own, with its own home folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TUNESMITH = Path(sys.executable).with_name("tunesmith")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    def cached(self) -> dict[str, bool]:
        """Whether each stage of a run was taken from an earlier one."""
        return {each["name"]: each["cached"] for each in self.json["stages"]}

    def value(self, suite: str, metric: str, *, split: str = "tuned") -> float:
        """The evaluation result of that name."""
        for each in self.json["evaluation"]:
            if (each["suite"], each["metric"], each["split"]) == (suite, metric, split):
                return float(each["value"])
        raise KeyError(f"no {suite} {metric} of {split} in {self.json['evaluation']}")


def tunesmith(*arguments: str | Path, timeout_s: float = 900.0) -> Ran:
    """Run the command to its end."""
    done = subprocess.run(
        [TUNESMITH, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=_environment(),
    )
    return Ran(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command, and leave nothing of it behind."""
    process = subprocess.Popen(
        [TUNESMITH, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def wait_until(holds: Callable[[], bool], *, what: str, timeout_s: float = 300.0) -> None:
    """Return as soon as `holds()`.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.1)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def processes_of(home: Path) -> list[int]:
    """Every live process of a job below `home`, known by its arguments or its environment."""
    needle = str(home).encode()
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _mentions(entry, needle)
    ]


def _mentions(entry: Path, needle: bytes) -> bool:
    try:
        is_gone = b"State:\tZ" in (entry / "status").read_bytes()
        text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
    except OSError:
        return False
    return not is_gone and needle in text


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
