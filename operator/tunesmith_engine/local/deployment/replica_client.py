"""What a replica is asked over its own port: its state, its samples, and to drain."""

import http.client
import json
from typing import Any, Final

from pydantic import ConfigDict, ValidationError

from tunesmith_api.base import ApiModel

# A replica whose event loop stands still for longer cannot be told from one that hangs.
_TIMEOUT_S: Final = 2.0


class ReplicaReport(ApiModel):
    """`/tunesmith/state`; fields of a later release are passed over."""

    model_config = ConfigDict(extra="ignore")

    revision: str
    instance: str
    ready: bool
    draining: bool
    reason: str
    message: str
    running: int
    accepted: int
    quiet_seconds: float


def read_state(port: int) -> ReplicaReport | None:
    """What the replica says of itself; None while it does not answer."""
    try:
        return ReplicaReport.model_validate(_ask(port, "GET", "/tunesmith/state"))
    except (OSError, http.client.HTTPException, ValueError, ValidationError):
        # Not yet, not any more, or not by the server that we started: a port may be taken over.
        return None


def read_samples(port: int, *, after: int, limit: int) -> dict[str, Any] | None:
    """The page of samples behind the place `after`; None while it does not answer."""
    try:
        path = f"/tunesmith/samples?after={after}&limit={limit}"
        page = _ask(port, "GET", path)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return page if isinstance(page, dict) and "samples" in page else None


def start_draining(port: int) -> None:
    """Tell it that nothing more will come. One that does not answer has nothing to drain."""
    try:
        _ask(port, "POST", "/tunesmith/drain")
    except (OSError, http.client.HTTPException, ValueError):
        return


def _ask(port: int, method: str, path: str) -> Any:
    # Not urllib: it would ask the user's proxy.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, headers={"Connection": "close"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
