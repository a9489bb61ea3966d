"""`python -m tunesmith_serving drain --deadline S`: the preStop of a serving pod.

Nothing new should come any more, so wait until nothing is under way. What arrives after SIGTERM
vLLM refuses with a 500, or aborts in the dress of a whole answer (vllm#57082), so traffic has to be
gone before: a replica that drains is not ready, and asks its clients to leave their connections.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

_TIMEOUT_S: Final = 5.0
_PAUSE_S: Final = 0.25
EXIT_DRAINED: Final = 0
EXIT_DEADLINE: Final = 1
# A preStop runs beside the removal of the pod's endpoints, which takes so long to reach proxies.
DEFAULT_QUIET_S: Final = 3.0

Ask = Callable[[str, str], dict[str, Any]]


def drain(argv: list[str]) -> int:
    """Tell the replica on this machine to drain, and wait. Return the exit code."""
    arguments = _parser().parse_args(argv)

    def ask(method: str, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", arguments.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path)
            state: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return state

    running = wait_until_idle(ask, deadline=arguments.deadline, quiet=arguments.quiet)
    if running is None:
        sys.stderr.write("drain: nothing answers, so nothing is under way\n")
    elif running:
        sys.stderr.write(
            f"drain: {running} requests were under way after {arguments.deadline:g} s\n"
        )
    return EXIT_DEADLINE if running else EXIT_DRAINED


def wait_until_idle(
    ask: Ask,
    *,
    deadline: float,
    quiet: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int | None:
    """Drain, and wait until nothing has run and come for `quiet` seconds, or `deadline` is over.

    Return the number of requests that run still, None if the replica is gone.
    """
    until = clock() + deadline
    method, path, running = "POST", "/tunesmith/drain", 0
    while True:
        try:
            state = ask(method, path)
            running = int(state["running"])
            if method == "GET" and not running and state["quietSeconds"] >= quiet:
                return 0
            method, path = "GET", "/tunesmith/state"
        except ConnectionRefusedError:
            return None
        except (OSError, http.client.HTTPException):
            # A server that is busy, or that closes this very connection, is not gone.
            pass
        if clock() >= until:
            return running
        sleep(_PAUSE_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunesmith_serving drain", description="Wait until a replica has nothing under way."
    )
    parser.add_argument(
        "--deadline", type=float, required=True, help="seconds after which it is given up"
    )
    parser.add_argument("--port", type=int, default=8000, help="port of the replica")
    parser.add_argument(
        "--quiet",
        type=float,
        default=DEFAULT_QUIET_S,
        help="seconds in which no request may have come",
    )
    return parser
