"""Lines on a terminal that are drawn over themselves, with others that stay above them."""

import shutil
import threading
from typing import Final, Self, TextIO

# Seconds between two drawings; often enough that a clock moves by each second.
REDRAW_S: Final = 0.5


class LiveScreen:
    """What `lines` says, drawn twice a second from the beginning of the block to its end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._num_drawn = 0
        # Held while anything is written: the ticker draws, and `say` comes from another thread.
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        # A daemon, so that a second Ctrl-C does not wait for it.
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        # NB: the ticker must be gone before the last drawing, which is to stay on the screen.
        self._is_over.set()
        self._ticker.join()
        self._draw()

    def lines(self, width: int) -> list[str]:
        """What is to be seen now, no line longer than `width`; one that wraps is not drawn over."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Write a line above."""
        with self._lock:
            self._erase()
            print(text, file=self._stream, flush=True)
        self._draw()

    def _tick(self) -> None:
        while not self._is_over.wait(REDRAW_S):
            self._draw()

    def _draw(self) -> None:
        # The width is asked each time, for a window changes its size; SIGWINCH would only redraw it
        # sooner. One column is left free: some terminals wrap once the last one is filled.
        lines = self.lines(shutil.get_terminal_size().columns - 1)
        if not lines:
            return
        with self._lock:
            self._erase()
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
            self._num_drawn = len(lines)

    def _erase(self) -> None:
        # Up to the first line, then clear to the end of the screen (CSI A, CSI J).
        if self._num_drawn:
            self._stream.write(f"\x1b[{self._num_drawn}A\x1b[J")
        self._num_drawn = 0
