"""Reads the data of server-sent events from pieces of a body, as they pass by.

Pieces need not end where events end. What is kept is the part of one line, and not without bound.
"""

from collections.abc import Iterator
from typing import Final

# An event with many log-probabilities has tens of kilobytes.
MAX_LINE_BYTES: Final = 1 << 20
DONE: Final = b"[DONE]"


class EventStream:
    """One stream; `is_blind` once a line was too long to keep."""

    def __init__(self) -> None:
        self._rest = b""
        self.is_blind = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of every event that `piece` completes.

        A server that speaks OpenAI's protocol writes each event in one `data:` line.
        """
        if self.is_blind:
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self.is_blind = b"", True
        for line in lines:
            # Comments keep a connection alive and begin with a colon.
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()
