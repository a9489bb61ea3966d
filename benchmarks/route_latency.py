"""What our route adds to a request: over bare Envoy, with LiteLLM's proxy beside it.

The same requests go to a fast engine (the stand-in, whose first token takes 5 ms) directly, through
an Envoy that knows nothing but one cluster, through ours with a canary of 10 % and sticky
conversations, through ours with copies of everything, and through LiteLLM. Rounds of all paths
alternate, so that whatever else the machine does meets all of them. A second bare Envoy shows what
equal paths differ by.
"""

import http.client
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

from commands import environment_with, interval

from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.local.deployment.replica_process import free_port
from tunesmith_engine.local.envoy.config import HOST, Endpoint
from tunesmith_engine.local.envoy.proxy import Envoy

ROOT: Final = Path(__file__).parents[1]
MODEL: Final = "helpdesk"
LITELLM: Final = "litellm[proxy]==1.106.2"
_OLD, _NEW = "0000000a", "0000000b"
_ROUNDS: Final = 40
_REQUESTS: Final = 20
_TOKENS: Final = 16
_START_S: Final = 120.0


class Way:
    """One way to the engine: a connection that is kept."""

    def __init__(self, port: int, *, key: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=30)
        self._headers = {"content-type": "application/json", "x-conversation-id": "bench"}
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"

    def connect(self) -> None:
        """A connection anew, with one request over it: idle ones are closed after seconds."""
        self._connection.close()
        self._ask(stream=False).read()

    def whole_ms(self) -> float:
        """Milliseconds until an answer in one piece is there."""
        began = time.perf_counter()
        self._ask(stream=False).read()
        return (time.perf_counter() - began) * 1000

    def first_ms(self) -> float:
        """Milliseconds until the first bytes of a streamed answer are there."""
        began = time.perf_counter()
        response = self._ask(stream=True)
        response.read1()
        first = (time.perf_counter() - began) * 1000
        response.read()
        return first

    def _ask(self, *, stream: bool) -> http.client.HTTPResponse:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "word " * 120}],
            "max_tokens": _TOKENS,
            "stream": stream,
        }
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
        response = self._connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{response.status}: {response.read()[:200]!r}")
        return response


def measure(home: Path) -> dict[str, Any]:
    """Medians of each path, and what it adds, with 95 % intervals over the rounds."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        engines = [stack.enter_context(_engine()) for _ in range(2)]
        paths = {
            "direct": Way(engines[0]),
            "bareEnvoy": Way(stack.enter_context(_bare_envoy(folder / "bare", engines[0]))),
            "bareEnvoyAgain": Way(stack.enter_context(_bare_envoy(folder / "again", engines[0]))),
            "route": Way(
                stack.enter_context(_route(folder / "route", engines, Route({_NEW: 10, _OLD: 90})))
            ),
            "routeWithCopies": Way(
                stack.enter_context(
                    _route(folder / "copies", engines, Route({_OLD: 100}, _NEW, 100))
                )
            ),
            "liteLlm": stack.enter_context(_litellm(home, folder, engines[0])),
        }
        times = _alternate(paths)
    return {
        "rounds": _ROUNDS,
        "requestsPerRound": _REQUESTS,
        "liteLlm": LITELLM,
        **{kind: _figures(by_path) for kind, by_path in times.items()},
    }


def _alternate(paths: dict[str, Way]) -> dict[str, dict[str, list[list[float]]]]:
    """Times of each round, by kind of answer and path."""
    kinds: dict[str, Callable[[Way], float]] = {
        "wholeMs": Way.whole_ms,
        "firstTokenMs": Way.first_ms,
    }
    times: dict[str, dict[str, list[list[float]]]] = {
        kind: {name: [] for name in paths} for kind in kinds
    }
    for number in range(_ROUNDS + 1):
        order = list(paths)
        random.Random(number).shuffle(order)
        for kind, ask in kinds.items():
            for name in order:
                paths[name].connect()
                of_round = [ask(paths[name]) for _ in range(_REQUESTS)]
                # The first round fills caches and opens connections.
                if number:
                    times[kind][name].append(of_round)
    return times


def _figures(by_path: dict[str, list[list[float]]]) -> dict[str, Any]:
    medians = {name: list(map(statistics.median, rounds)) for name, rounds in by_path.items()}
    bare = medians["bareEnvoy"]
    return {
        name: {
            "median": round(statistics.median(medians[name]), 3),
            "p99": round(statistics.quantiles(chain(*rounds), n=100)[98], 3),
            "addedToBareEnvoy": interval(
                [value - b for value, b in zip(medians[name], bare, strict=True)]
            ),
        }
        for name, rounds in by_path.items()
    }


@contextmanager
def _engine() -> Iterator[int]:
    port = free_port()
    script = ROOT / "tests" / "support" / "stand_in_engine.py"
    command = [sys.executable, script, "--port", str(port), "--ttft", "0.005", "--model", MODEL]
    with _process(command, port):
        yield port


@contextmanager
def _route(folder: Path, engines: list[int], route: Route) -> Iterator[int]:
    port = free_port()
    envoy = Envoy(folder, port=port, admin_port=free_port())
    envoy.start()
    try:
        endpoints = zip((_OLD, _NEW), engines, strict=True)
        envoy.apply(route, {name: [Endpoint(HOST, at)] for name, at in endpoints})
        yield port
    finally:
        envoy.stop()


@contextmanager
def _bare_envoy(folder: Path, engine: int) -> Iterator[int]:
    """One listener, one route, one cluster, nothing else."""
    port = free_port()
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    config = {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "engine",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "engine",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _address(engine)}}]}
                        ],
                    },
                }
            ],
        }
    }
    folder.mkdir()
    path = folder / "bare.json"
    path.write_text(json.dumps(config))
    binary = Path(sys.executable).with_name("envoy")
    command = [str(binary), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "2"]
    with _process([*command, "--log-level", "error"], port):
        yield port


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


@contextmanager
def _litellm(home: Path, folder: Path, engine: int) -> Iterator[Way]:
    """LiteLLM's proxy with one worker, in an environment of its own."""
    python = environment_with(home / "litellm", LITELLM)
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"http://{HOST}:{engine}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": key},
    }
    path = folder / "litellm.json"
    path.write_text(json.dumps(config))
    command = [str(python.with_name("litellm")), "--config", str(path), "--host", HOST]
    with _process([*command, "--port", str(port), "--num_workers", "1"], port):
        yield Way(port, key=key)


@contextmanager
def _process(command: list[Any], port: int) -> Iterator[None]:
    # Nothing of LiteLLM's own asks the network.
    quiet = {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **quiet},
        # NB: as `Envoy` and replicas are started. Linux shares the processor out by session
        # (autogroup): on a busy machine one of its own costs a proxy a millisecond.
        start_new_session=True,
    ) as process:
        try:
            _wait_for(port, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=2)
        try:
            connection.request("GET", "/health")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.2)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"nothing listens on port {port}: {process.args!r}")
