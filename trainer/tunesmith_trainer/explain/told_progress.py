"""How far an explanation of one text is, as lines on standard error, for who waits for it.

On a terminal one line is written over and over; elsewhere there is a line for each phase, and one
from time to time within it.
"""

import time
from collections.abc import Callable
from typing import Final, TextIO

# Seconds between two lines of one phase.
_ON_TERMINAL: Final = 0.5
_ELSEWHERE: Final = 10.0
# To the end of the line, which was longer before.
_ERASE: Final = "\x1b[K"


class ToldProgress:
    """Phases, and the forward passes that the text has taken so far; nothing of its words."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._phase, self._passes, self._told = "", 0, 0.0

    def phase(self, name: str) -> None:
        """What is done next."""
        self._phase = name
        self._tell()

    def passes(self, number: int) -> None:
        """So many forward passes are done in all."""
        self._passes = number
        interval = _ON_TERMINAL if self._is_terminal else _ELSEWHERE
        if self._clock() - self._told >= interval:
            self._tell()

    def close(self) -> None:
        """Leave nothing on a terminal: what was found stands there then."""
        if self._is_terminal:
            self._stream.write(f"\r{_ERASE}")
            self._stream.flush()

    def _tell(self) -> None:
        self._told = self._clock()
        passes = f", {self._passes} forward passes so far" if self._passes else ""
        line = f"{self._phase}{passes}"
        self._stream.write(f"\r{line}{_ERASE}" if self._is_terminal else f"{line}\n")
        self._stream.flush()
