"""Events: what `kubectl describe` shows as the history of an object.

Written after the status that they tell of, behind the work that is still to be done, and never
again: a crash in between loses lines of the history, and the status is what counts.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final, NoReturn

from tunesmith_operator.kube.api_errors import is_outage
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import MANAGER, Manifest
from tunesmith_operator.kube.resources import Resource

_LOG = logging.getLogger(__name__)

# Seconds for which an Event lets everything else come first.
PATIENCE_S: Final = 30.0
# Seconds between two Events: those of a thousand jobs must not take the server from their pods.
PACE_S: Final = 0.05
# How many wait at the most, some kilobyte each; what comes then is lost.
MAX_WAITING: Final = 10_000
# Seconds for which an API server that is away is asked again, and between two times; and those that
# an operator has that ends.
_OUTAGE_S: Final = 300.0
_AGAIN_S: Final = 1.0
_LAST_S: Final = 3.0


class EventRecorder:
    """The Events that are to be written: whoever records one does not wait until it is.

    What client-go calls a recorder and its broadcaster.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._waiting: deque[tuple[float, Manifest]] = deque()
        self._has_some = asyncio.Event()

    def record(self, event: Manifest) -> None:
        """Have the Event written."""
        if len(self._waiting) >= MAX_WAITING:
            _LOG.warning("%s is lost: %d wait already", _words(event), MAX_WAITING)
            return
        self._waiting.append((time.monotonic(), event))
        self._has_some.set()

    async def run(self, *, is_busy: Callable[[], bool]) -> NoReturn:
        """Write what is recorded in its order, once nothing else is to be done.

        Never ends; cancelled, it takes a few seconds for what still waits.
        """
        try:
            while True:
                await self._has_some.wait()
                if not is_busy() or self._age_s() > PATIENCE_S:
                    await self._write_next()
                await asyncio.sleep(PACE_S)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        while self._waiting:
            await self._write_next()

    def _age_s(self) -> float:
        return time.monotonic() - self._waiting[0][0]

    async def _write_next(self) -> None:
        _, event = self._waiting[0]
        try:
            await self._client.create(event)
        except Exception as error:  # noqa: BLE001 - for a line of the history nothing is stopped
            if is_outage(error) and self._age_s() < _OUTAGE_S:
                # It may be of this namespace alone, so the others come first.
                self._waiting.rotate(-1)
                await asyncio.sleep(_AGAIN_S)
                return
            _LOG.warning("%s is lost: %s", _words(event), error)
        # NB: only now. A write that is cancelled is repeated by `flush`, under the same name.
        self._waiting.popleft()
        if not self._waiting:
            self._has_some.clear()


def _words(event: Manifest) -> str:
    about = event["involvedObject"]
    return f"the Event {event['reason']} of {about['kind']} {about['namespace']}/{about['name']}"


def event_about(
    manifest: Manifest,
    resource: Resource,
    *,
    phase: str,
    reason: str,
    message: str,
    is_warning: bool,
    now: datetime,
) -> Manifest:
    """The Event of the change to `phase` that was decided on exactly this version of the object."""
    metadata = manifest["metadata"]
    # Of the version that was changed, so that writing it again writes the same Event; events of
    # deleted objects of this name stay for an hour, hence the uid.
    text = f"{metadata['uid']}/{metadata['resourceVersion']}/{phase}"
    name = f"{metadata['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    time = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            **{field: metadata[field] for field in ("name", "namespace", "uid")},
        },
        "type": "Warning" if is_warning else "Normal",
        "reason": reason,
        "message": message,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        # kubectl sorts by the old fields and shows their count.
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
