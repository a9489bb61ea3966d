"""What the tap adds to real vLLM: two servers of one model on the CPU, one of them without it.

Both run all the time, and rounds of requests alternate between them in shuffled order, so that
whatever else the machine does meets both. The model has two random layers: with a larger one the
tap's share would be smaller. Where the machine is busy, read processor time instead of the clock.
"""

import http.client
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from commands import ROOT, interval
from vllm_server import HOST, MODEL, SERVER_PYTHON, Server, vllm_server

from tunesmith_serving.replica.settings import ReplicaSettings

_ROUNDS: Final = 40
# By one client after another, and by eight at once.
_ALONE, _TOGETHER, _CLIENTS = 12, 64, 8
_TOKENS: Final = 16
_THINGS: Final = ("printer", "screen", "keyboard", "network", "password", "battery", "account")
_WORDS: Final = (
    *_THINGS,
    "does",
    "not",
    "since",
    "my",
    "update",
    "error",
    "again",
    "before",
    "why",
)


def measure(home: Path) -> dict[str, Any]:
    """What the tap adds to the median request, and to the tokens of a second, paired by round."""
    folder = home / "two-layers"
    make = "import pathlib, served_version as v; v.make_version(pathlib.Path(r'{}'))"
    paths = {"PYTHONPATH": str(ROOT / "tests" / "support")}
    subprocess.run(
        [SERVER_PYTHON, "-c", make.format(folder)], check=True, env={**os.environ, **paths}
    )
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_server(folder, tap=name == "withTap"))
            for name in ("withTap", "without")
        }
        rounds = _alternate(servers)
        blocks = servers["withTap"].get("/tunesmith/drift")["blocks"]
        num_measured = sum(block["sketch"]["numRequests"] for block in blocks)
    taps, plain = rounds["withTap"], rounds["without"]
    pairs = list(zip(taps, plain, strict=True))
    return {
        "rounds": _ROUNDS,
        "requestsMeasured": num_measured,
        "medianMs": {name: _median(of_name, "ms") for name, of_name in rounds.items()},
        "processorMs": {name: _median(of_name, "cpuMs") for name, of_name in rounds.items()},
        "tokensPerSecond": {name: _median(of_name, "speed") for name, of_name in rounds.items()},
        "addedMs": interval([tap["ms"] - without["ms"] for tap, without in pairs]),
        "addedProcessorMs": interval([tap["cpuMs"] - without["cpuMs"] for tap, without in pairs]),
        "addedPercentOfThroughput": interval(
            [100 * (tap["speed"] / without["speed"] - 1) for tap, without in pairs]
        ),
    }


def _median(rounds: list[dict[str, float]], what: str) -> float:
    return round(statistics.median(each[what] for each in rounds), 3)


def _alternate(servers: dict[str, Server]) -> dict[str, list[dict[str, float]]]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for number in range(_ROUNDS + 1):
        order = list(servers)
        random.Random(number).shuffle(order)
        for name in order:
            measured = _round(servers[name], seed=number)
            # The first round fills caches.
            if number:
                rounds[name].append(measured)
    return rounds


def _round(server: Server, *, seed: int) -> dict[str, float]:
    """The median of requests one by one in milliseconds, and tokens a second of many.

    `cpuMs` is the processor time of the server's process, without the engine's, for a request.
    """
    port, cpu_s = server.port, server.cpu_seconds()
    draw = random.Random(seed)
    prompts = [" ".join(draw.choices(_WORDS, k=40)) for _ in range(_ALONE + _TOGETHER)]
    alone = [_ask(port, prompt) for prompt in prompts[:_ALONE]]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        started = time.perf_counter()
        list(pool.map(lambda prompt: _ask(port, prompt), prompts[_ALONE:]))
        seconds = time.perf_counter() - started
    cpu_ms = (server.cpu_seconds() - cpu_s) * 1000 / len(prompts)
    speed = _TOGETHER * _TOKENS / seconds
    return {"ms": statistics.median(alone), "speed": speed, "cpuMs": cpu_ms}


def _ask(port: int, prompt: str) -> float:
    """Milliseconds of one streamed answer."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": _TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection(HOST, port, timeout=120)
    started = time.perf_counter()
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    taken = (time.perf_counter() - started) * 1000
    connection.close()
    if not text.endswith(b"data: [DONE]\n\n"):
        raise RuntimeError(f"{response.status}: {text[-200:]!r}")
    return taken


@contextmanager
def _server(folder: Path, *, tap: bool) -> Iterator[Server]:
    """vLLM with the replica's middleware."""
    replica = ReplicaSettings(
        version="two-layers", model=MODEL, fingerprints=folder / "fingerprints.json", tap=tap
    )
    with vllm_server(folder, replica) as server:
        yield server
