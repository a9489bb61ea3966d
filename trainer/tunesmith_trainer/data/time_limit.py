"""A limit of time for what others have written and we run, such as a chat template."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OverTimeError(Exception):
    """It has not ended in its time."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the block by an OverTimeError once it has taken so long.

    Python hears of the clock in its main thread alone; in another one nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise OverTimeError

    started = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            # Somebody else's, which goes on: that of a test, for one.
            rest = max(left - (time.monotonic() - started), 0.001)
            signal.setitimer(signal.ITIMER_REAL, rest)
