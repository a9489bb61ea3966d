"""Measured requests in blocks, for whoever looks for drift; bounded, oldest dropped first.

Blocks, so that nobody is told of a single request, and a reader that was away for long can catch
up. As with samples, readers keep their own place.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from tunesmith_engine.drift.sketches import Bins, Tally

CAPACITY: Final = 512
REQUESTS_OF_BLOCK: Final = 16
BLOCK_SECONDS: Final = 30.0
# A block has some five kilobytes as JSON, most of them counts of words.
BLOCKS_OF_PAGE: Final = 128


@dataclass(frozen=True, slots=True)
class _Block:
    seq: int
    last_at: float
    sketch: dict[str, Any]

    def shown(self, now: float) -> dict[str, Any]:
        """As readers see it; its age is that of its last request."""
        age = round(now - self.last_at, 3)
        return {"seq": self.seq, "ageSeconds": age, "sketch": self.sketch}


@dataclass(frozen=True, slots=True)
class BlockPage:
    """What a reader is given: its new place, how many blocks it has missed, and blocks."""

    next: int
    dropped: int
    blocks: list[dict[str, Any]]


class BlockRing:
    """The last blocks, and the one that is being filled; every `now` is of one monotonic clock."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._blocks: deque[_Block] = deque(maxlen=capacity)
        self._last = 0
        self._tally = Tally()
        self._first_at = self._last_at = 0.0

    def add(self, bins: Bins, *, now: float) -> None:
        """Count one request.

        Raises:
            LookupError: there is no such signal or bin.
        """
        self._close_old(now)
        if not self._tally.num_requests:
            self._first_at = now
        self._tally.add(bins)
        self._last_at = now
        if self._tally.num_requests == REQUESTS_OF_BLOCK:
            self._close()

    def after(self, seq: int, *, now: float) -> BlockPage:
        """Blocks behind the place `seq`, as many as fit into a page."""
        self._close_old(now)
        first = self._blocks[0].seq if self._blocks else self._last + 1
        behind = (block for block in self._blocks if block.seq > seq)
        given = list(islice(behind, BLOCKS_OF_PAGE))
        return BlockPage(
            # NB: of a place in the future, which is that of a process before this one, the last.
            next=given[-1].seq if given else min(seq, self._last),
            dropped=max(0, first - 1 - seq),
            blocks=[block.shown(now) for block in given],
        )

    def _close_old(self, now: float) -> None:
        if self._tally.num_requests and now - self._first_at >= BLOCK_SECONDS:
            self._close()

    def _close(self) -> None:
        self._last += 1
        sketch = self._tally.sketch().model_dump(mode="json", by_alias=True)
        self._blocks.append(_Block(seq=self._last, last_at=self._last_at, sketch=sketch))
        self._tally = Tally()
