"""Ctrl-C during a run: once asks it to stop, twice makes it stop. A closed terminal asks, too.

`commands/run.py` wraps the engine in `stopping`. To stop cleanly means that the stage writes a
checkpoint and that its processes, Ray's and vLLM's among them, are gone; that takes seconds, which
an impatient second Ctrl-C cuts short.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOPPING: Final = "stopping after Ctrl-C; press it again to stop at once"
_STANDARD_STREAMS: Final = (0, 1, 2)


@contextmanager
def stopping(stop: threading.Event, *, say: Callable[[str], None]) -> Iterator[None]:
    """Within the block the first SIGINT, SIGTERM or SIGHUP sets `stop`.

    A second SIGINT or SIGTERM raises. Only the main thread may enter the block.

    Raises:
        KeyboardInterrupt: asked to stop a second time.
    """
    # NB: looked up now: once the terminal is gone, isatty says False of what pointed to it.
    terminals = [stream for stream in _STANDARD_STREAMS if os.isatty(stream)]

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # NB: not from here. A handler runs between two instructions of the main thread, which may
        # hold the lock that `say` needs: it would wait for itself.
        threading.Thread(target=say, args=(_STOPPING,), daemon=True).start()

    def hang_up(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        # Writing to a terminal that is gone fails with EIO, which would end the run in the middle
        # of stopping. From now on it writes to nowhere.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for terminal in terminals:
            os.dup2(nowhere, terminal)
        os.close(nowhere)
        # NB: never raises the second time: the kernel and the shell both send SIGHUP for one
        # closed window, and two of them are no impatience.
        stop.set()

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle}
    # nohup and `disown` have it ignored, which asks that the run outlives the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = hang_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
