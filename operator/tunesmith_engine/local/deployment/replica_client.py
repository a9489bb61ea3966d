"""What a replica is asked over its own port: how it is, what it has measured, and to drain."""

import http.client
import time
from collections.abc import Callable
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_engine.deployment.adapter_list import AdapterList
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.monitoring.drift_page import MAX_DRIFT_PAGES, DriftPage
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


def read_metrics(port: int) -> str | None:
    """What the replica shows to Prometheus; None while it does not answer."""
    try:
        return _read(port, "GET", "/metrics").decode()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def read_drift(port: int, *, after: int, adapter: str | None = None) -> list[DriftPage]:
    """The measured requests behind the place `after`, as far as they are to be had."""
    chosen = f"&adapter={adapter}" if adapter else ""
    pages: list[DriftPage] = []
    try:
        while len(pages) < MAX_DRIFT_PAGES and (not pages or pages[-1].blocks):
            place = pages[-1].next if pages else after
            pages.append(DriftPage.of(_ask(port, "GET", f"/tunesmith/drift?after={place}{chosen}")))
    except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError):
        return pages
    return pages


def read_reference(port: int, *, adapter: str | None = None) -> dict[str, Any] | None:
    """The statistics of the data that the replica's version was trained on; None without any."""
    try:
        chosen = f"?adapter={adapter}" if adapter else ""
        content: dict[str, Any] = _ask(port, "GET", f"/tunesmith/reference{chosen}")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return content if "training" in content else None


def start_draining(port: int) -> None:
    """Tell it that nothing more will come. One that does not answer has nothing to drain."""
    try:
        _ask(port, "POST", "/tunesmith/drain")
    except (OSError, http.client.HTTPException, ValueError):
        return


def _ask(port: int, method: str, path: str, *, body: str | None = None) -> Any:
    return read_json(_read(port, method, path, body=body))


def _read(port: int, method: str, path: str, *, body: str | None = None) -> bytes:
    # Not urllib: it would ask the user's proxy.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, headers={"Connection": "close"})
        return connection.getresponse().read()
    finally:
        connection.close()
