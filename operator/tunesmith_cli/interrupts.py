"""Ctrl-C during a run: once asks it to stop, twice makes it stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = "stopping after Ctrl-C; press it again to stop at once"


@contextmanager
def stopping(stop: threading.Event, *, say: Callable[[str], None]) -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM sets `stop`, the second raises.

    Raises:
        KeyboardInterrupt: asked to stop a second time.
    """

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # NB: not from here: the interrupted code may hold the lock that `say` needs.
        threading.Thread(target=say, args=(_STOPPING,), daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
