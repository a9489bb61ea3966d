"""Rows on their way to one tracker, in a thread of its own: no step waits for a server.

A tracker that cannot be reached is tried again, and then gets all that it has missed. It never ends
a training.
"""

import logging
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Final

from tunesmith_trainer.train.trackers.rows import Ending, Row, Tracker

_INTERVAL_S: Final = 2.0
_RETRY_S: Final = 30.0
# A server that is gone must not hold a job that is done.
_LAST_WAIT_S: Final = 60.0
_LONGEST_FAULT: Final = 200

log = logging.getLogger(__name__)


class Sender:
    """Logs what it is given until it is closed.

    `name` is the tracker's in messages; `hide` takes credentials out of the errors of libraries.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        name: str,
        hide: Callable[[str], str] = str,
        interval_s: float = _INTERVAL_S,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._tracker = tracker
        self._name = name
        self._hide = hide
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._queue: SimpleQueue[Row] = SimpleQueue()
        self._waiting: list[Row] = []
        self._is_open = False
        self._not_before = 0.0
        self._fault = ""
        self._ending: Ending | None = None
        self._ended = Event()
        self._thread = Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, row: Row) -> None:
        """Log the row soon."""
        self._queue.put(row)

    def close(self, ending: Ending, *, wait_s: float = _LAST_WAIT_S) -> str | None:
        """Log what is left, for as long as `wait_s`; a warning if not all has arrived."""
        self._ending = ending
        self._ended.set()
        self._thread.join(wait_s)
        if self._thread.is_alive():
            self._fault = self._fault or f"it did not answer for {wait_s:.0f} s"
        if not self._fault:
            return None
        return f"tracking.{self._name} has not all of the curve: {self._fault}"

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            if time.monotonic() >= self._not_before:
                self._attempt(self._send)
        # Once more in the end, whatever came before.
        if self._attempt(self._send):
            self._attempt(self._close)

    def _send(self) -> None:
        try:
            while True:
                self._waiting.append(self._queue.get_nowait())
        except Empty:
            pass
        if not self._waiting:
            return
        if not self._is_open:
            self._tracker.open()
            self._is_open = True
        self._tracker.log(self._waiting)
        self._waiting.clear()

    def _close(self) -> None:
        if self._is_open and self._ending is not None:
            self._tracker.close(self._ending)

    def _attempt(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - each library has its own, and none ends a run
            lines = self._hide(str(error)).strip().splitlines() or [""]
            fault = f"{type(error).__name__}: {lines[0]}"[:_LONGEST_FAULT]
            if fault != self._fault:
                log.warning("tracking.%s: %s; trained on, and tried again", self._name, fault)
            self._fault = fault
            self._not_before = time.monotonic() + self._retry_s
            return False
        self._fault = ""
        return True
