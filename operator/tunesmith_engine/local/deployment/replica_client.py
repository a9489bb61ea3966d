"""What a replica is asked over its own port: its state, its samples, and to drain."""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any, Final

from tunesmith_engine.deployment.adapter_list import AdapterList
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.rollout.ring_page import MAX_SAMPLES_OF_PAGE, RingPage

# A replica whose event loop stands still for longer cannot be told from one that hangs.
_TIMEOUT_S: Final = 2.0


def read_state(port: int) -> ReplicaReport | None:
    """What the replica says of itself; None while it does not answer."""
    try:
        return ReplicaReport.model_validate(_ask(port, "GET", "/tunesmith/state"))
    except (OSError, http.client.HTTPException, ValueError):
        # Not yet, not any more, or not by the server that we started: a port may be taken over.
        return None


def put_adapters(port: int, adapters: AdapterList) -> None:
    """Tell it which adapters to hold. One that does not answer is told again at the next look."""
    try:
        body = adapters.model_dump_json(by_alias=True)
        _ask(port, "PUT", "/tunesmith/adapters", body=body)
    except (OSError, http.client.HTTPException, ValueError):
        return


def read_samples(
    port: int,
    *,
    after: int,
    adapter: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RingPage | None:
    """The page of samples behind the place `after`; None while it does not answer.

    `adapter` is the revision of one of those that the replica holds.
    """
    try:
        path = f"/tunesmith/samples?after={after}&limit={MAX_SAMPLES_OF_PAGE}"
        path += f"&adapter={adapter}" if adapter else ""
        content = _ask(port, "GET", path)
        return RingPage.of(content, read_at=clock())
    except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError):
        return None


def start_draining(port: int) -> None:
    """Tell it that nothing more will come. One that does not answer has nothing to drain."""
    try:
        _ask(port, "POST", "/tunesmith/drain")
    except (OSError, http.client.HTTPException, ValueError):
        return


def _ask(port: int, method: str, path: str, *, body: str | None = None) -> Any:
    # Not urllib: it would ask the user's proxy.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, headers={"Connection": "close"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
