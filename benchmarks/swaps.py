"""New versions under load: how many answers are not whole, with `tunesmith deploy` and without.

10,000 requests at a constant rate, half of them streamed, pass through 20 swaps of the version. An
answer counts by its content, never by its status (`tests/support/open_loop.py`). The peer is a
rolling update with vLLM's defaults: the same Envoy is pointed at the new engine once that is ready,
and the old one gets SIGTERM as soon as Envoy says that it has the route. Engines are stand-ins with
vLLM's abort and drain.
"""

import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.local.deployment.replica_process import free_port
from tunesmith_engine.local.envoy.config import HOST, Endpoint
from tunesmith_engine.local.envoy.proxy import Envoy

SUPPORT: Final = Path(__file__).parents[1] / "tests" / "support"
sys.path.append(str(SUPPORT))

from laptop import MODEL, Laptop  # noqa: E402 - found only now
from open_loop import Request, Tally, send  # noqa: E402 - found only now

NUM_REQUESTS: Final = 10_000
NUM_SWAPS: Final = 20
RATE: Final = 50.0
# Lengths as of chats: most are short, and a hundredth is longer than ten times the median.
_MEDIAN_TOKENS: Final = 12
_SIGMA: Final = 1.0
_ENGINE: Final = {"ttft": 0.02, "itl": 0.01}
_TIMEOUT_S: Final = 60.0
_OK: Final = 200


@dataclass
class Lives:
    """From when until when each version may have answered, by the monotonic clock."""

    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def is_right(self, version: str | None, *, started: float, ended: float) -> bool:
        """Whether that version may have answered a request."""
        if version is None or version not in self.began:
            return False
        return self.began[version] <= ended and started <= self.ended.get(version, started)


class Way(Protocol):
    """A way to bring out versions."""

    url: str
    lives: Lives

    def swap(self, version: str) -> None:
        """Return when the version gets all new requests."""


def measure(_: Path) -> dict[str, Any]:
    """Both ways, one after the other, with the same requests."""
    requests = lengths(NUM_REQUESTS, seed=0)
    ways: dict[str, Callable[[Path], AbstractContextManager[Way]]] = {
        "tunesmith": Deployed,
        "plainRollingUpdate": RollingUpdate,
    }
    results: dict[str, Any] = {"rate": RATE, "swaps": NUM_SWAPS, **_described(requests)}
    for name, way in ways.items():
        print(f"swaps: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder, way(Path(folder)) as running:
            results[name] = _measure(running, requests)
    return results


def lengths(number: int, *, seed: int) -> list[Request]:
    """Answers of log-normal lengths up to twice the 99th percentile; every other is streamed."""
    source = random.Random(seed)
    longest = 2 * round(_MEDIAN_TOKENS * 2.718 ** (2.326 * _SIGMA))
    tokens = [
        min(longest, max(1, round(_MEDIAN_TOKENS * source.lognormvariate(0, _SIGMA))))
        for _ in range(number)
    ]
    # The longest of all have to be among them: they outlive a swap.
    tokens[:: number // 20] = [longest] * len(tokens[:: number // 20])
    return [Request(length, stream=place % 2 == 0) for place, length in enumerate(tokens)]


def _described(requests: Sequence[Request]) -> dict[str, Any]:
    tokens = sorted(request.tokens for request in requests)
    return {
        "requests": len(requests),
        "streamed": sum(request.stream for request in requests),
        "tokens": {
            "median": tokens[len(tokens) // 2],
            "p99": tokens[len(tokens) * 99 // 100],
            "most": tokens[-1],
        },
    }


def _measure(way: Way, requests: Sequence[Request]) -> dict[str, Any]:
    tally = Tally()

    def run() -> None:
        sending = send(requests, url=way.url, rate=RATE, tally=tally, timeout_s=_TIMEOUT_S)
        asyncio.run(sending)

    thread = threading.Thread(target=run)
    begin = time.monotonic()
    thread.start()
    for number in range(NUM_SWAPS):
        # Spread over the whole run, so that the last is over before the last request is sent.
        due = begin + (number + 0.5) * len(requests) / RATE / (NUM_SWAPS + 1)
        time.sleep(max(0.0, due - time.monotonic()))
        started = time.monotonic()
        way.swap(f"v{number + 2}")
        way.lives.seconds.append(time.monotonic() - started)
    swapped_while_sending = thread.is_alive()
    thread.join()
    wrong = sum(
        not way.lives.is_right(o.version, started=o.started, ended=o.started + o.seconds)
        for o in tally.outcomes
        if o.problem is None
    )
    incomplete = sum(tally.problems().values()) + wrong
    return {
        "incomplete": incomplete,
        "incompleteWithStatus200": sum(
            o.status == _OK and o.problem is not None for o in tally.outcomes
        ),
        "wrongVersion": wrong,
        "problems": tally.problems(),
        "answers": len(tally.outcomes),
        "versions": len(tally.versions()),
        "swapsWhileSending": swapped_while_sending,
        "medianSwapSeconds": round(statistics.median(way.lives.seconds), 1),
    }


class Deployed:
    """`tunesmith deploy` with the strategy blueGreen."""

    def __init__(self, folder: Path) -> None:
        self._laptop = Laptop.of(folder)
        self._laptop.write_manifest(rollout={"strategy": "blueGreen", "drainSeconds": 60})
        self._running = self._laptop.deployed()
        self.url = self._laptop.endpoint
        self.lives = Lives()

    def __enter__(self) -> Self:
        self._running.__enter__()
        self.swap("v1")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)

    def swap(self, version: str) -> None:
        self._note_ends()
        self._laptop.publish(version, **_ENGINE, **{"shutdown-timeout": 10})
        self.lives.began[version] = time.monotonic()
        while self._laptop.stable() != version or self._laptop.candidate():
            time.sleep(0.1)
            self._note_ends()

    def _note_ends(self) -> None:
        """A version whose replicas are gone answers no more."""
        status = self._laptop.status()
        held = [status.get("stable"), status.get("candidate"), *status.get("draining", ())]
        alive = {revision["version"] for revision in held if revision}
        for version in self.lives.began.keys() - alive - self.lives.ended.keys():
            # The newest may not have been taken up yet.
            if version != max(self.lives.began, key=self.lives.began.__getitem__):
                self.lives.ended[version] = time.monotonic()


class RollingUpdate:
    """What a Deployment does with vLLM's defaults: no drain, and SIGTERM aborts what runs."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._folder = folder
        self._envoy = Envoy(folder / "proxy", port=port, admin_port=free_port())
        self._engine: subprocess.Popen[bytes] | None = None
        self._version = ""
        self.url = f"http://{HOST}:{port}/v1"
        self.lives = Lives()

    def __enter__(self) -> Self:
        self._envoy.start()
        self.swap("v1")
        return self

    def __exit__(self, *_: object) -> None:
        self._envoy.stop()
        if self._engine is not None:
            self._engine.kill()
            self._engine.wait()

    def swap(self, version: str) -> None:
        port = free_port()
        command = [sys.executable, str(SUPPORT / "stand_in_engine.py"), "--port", str(port)]
        command += ["--version", version, "--model", MODEL]
        for name, value in _ENGINE.items():
            command += [f"--{name}", str(value)]
        engine = subprocess.Popen(command)
        self.lives.began[version] = time.monotonic()
        while not _is_ready(port):
            time.sleep(0.05)
        self._envoy.apply(Route({version: 100}), {version: [Endpoint(HOST, port)]})
        if self._engine is not None:
            self._engine.send_signal(signal.SIGTERM)
            self.lives.ended[self._version] = time.monotonic()
            self._engine.wait()
        self._engine, self._version = engine, version


def _is_ready(port: int) -> bool:
    # vLLM's /health would do in a cluster. This Envoy asks for more, and must not be why it fails.
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/tunesmith/ready", timeout=1) as answer:
            return bool(answer.status == _OK)
    except OSError:
        return False


if __name__ == "__main__":
    print(json.dumps(measure(Path()), indent=2))
