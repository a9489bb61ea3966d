"""Looks at a deployment every few seconds for as long as the page is served, in a thread."""

import json
import logging
import secrets
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tunesmith_engine.monitoring.history import LOOK_S, History
from tunesmith_engine.monitoring.sighting import Sighting

_LOG = logging.getLogger(__name__)


class Watcher:
    """The history of a deployment since the block began."""

    def __init__(self, look: Callable[[], Sighting], *, look_s: float = LOOK_S) -> None:
        self._look = look
        self._look_s = look_s
        self._history = History()
        self._instance = secrets.token_hex(8)
        self._is_over = threading.Event()
        # A daemon, so that a second Ctrl-C does not wait for it.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()

    def state(self, *, after: int) -> bytes:
        """`/state.json`: the newest view, and the points behind number `after`.

        `instance` is another one after every start: numbers begin anew then.
        """
        # One reference, so that view and points are of the same look.
        history = self._history
        content: dict[str, Any] = {
            "instance": self._instance,
            "lookSeconds": self._look_s,
            "view": history.view.model_dump(mode="json", by_alias=True) if history.view else None,
            "points": [
                point.model_dump(mode="json", by_alias=True, exclude_none=True)
                for point in history.points
                if point.seq > after
            ],
        }
        return json.dumps(content, separators=(",", ":")).encode()

    def _run(self) -> None:
        while True:
            try:
                self._history = self._history.after(self._look())
            except Exception as error:  # noqa: BLE001 - watching must never end a deployment
                # The page shows how old its numbers are.
                _LOG.warning("the deployment cannot be looked at: %s", error)
            if self._is_over.wait(self._look_s):
                return
