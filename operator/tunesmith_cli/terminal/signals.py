"""Ctrl-C during a run: once asks it to stop, twice makes it stop. A closed terminal asks, too."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = "stopping after Ctrl-C; press it again to stop at once"
_STANDARD = (0, 1, 2)


@contextmanager
def stopping(stop: threading.Event, *, say: Callable[[str], None]) -> Iterator[None]:
    """Within the block the first SIGINT, SIGTERM or SIGHUP sets `stop`.

    A second SIGINT or SIGTERM raises; a closed terminal often sends SIGHUP twice. Where SIGHUP is
    ignored, as under nohup, it stays so.

    Raises:
        KeyboardInterrupt: asked to stop a second time.
    """
    terminals = [each for each in _STANDARD if os.isatty(each)]

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # NB: not from here: the interrupted code may hold the lock that `say` needs.
        threading.Thread(target=say, args=(_STOPPING,), daemon=True).start()

    def hang_up(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        _let_go_of(terminals)
        stop.set()

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = hang_up
    before = {number: signal.signal(number, each) for number, each in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _let_go_of(terminals: list[int]) -> None:
    """Write to nowhere from now on: a terminal that is gone fails whoever writes to it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for each in terminals:
        os.dup2(nowhere, each)
    os.close(nowhere)
