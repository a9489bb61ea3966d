"""The queue of keys to look at: deduplicated, one worker per key, failures back off.

What client-go calls a rate-limiting work queue, with two lines: where many wait, those come first
for which something is to be done, and what is only to be noted comes after. The event router only
adds keys; what is to be done is seen when a worker looks at the object, so an event that is missed
or repeated does no harm. All controllers share one queue and its workers.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

FIRST_DELAY_S: Final = 0.005
MAX_DELAY_S: Final = 300.0
# Seconds after which a key has waited long enough to come before the urgent ones.
PATIENCE_S: Final = 30.0
# Beyond these the delay is at its maximum, and the power would not fit into a float for ever.
_MAX_DOUBLINGS: Final = 20


class Key(NamedTuple):
    """An object that some controller is to look at."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


Waited = Callable[[Key, float], None]


def _unnoticed(_: Key, __: float) -> None:
    """Nobody wants to know."""


class Backlog:
    """The bookkeeping of the queue: it never waits, and is told what time it is.

    `waited` is told how many seconds each key was in its line.
    """

    def __init__(self, *, waited: Waited = _unnoticed) -> None:
        self._waited = waited
        # A dict is a line without repetitions: keys in the order in which they came, and since when
        self._urgent: dict[Key, float] = {}
        self._ready: dict[Key, float] = {}
        # `_later` says when each delayed key is due. Entries of the heap that it contradicts are of
        # delays that were shortened or overtaken, and are dropped when they come up.
        self._later: dict[Key, float] = {}
        self._due: list[tuple[float, Key]] = []
        self._processing: dict[Key, float] = {}
        # Keys that were added while a worker had them, and whether that was urgent.
        self._dirty: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ready)

    def depth(self, kind: str) -> int:
        """How many keys of a kind wait."""
        return sum(key.kind == kind for line in (self._urgent, self._ready) for key in line)

    def add(self, key: Key, *, now: float, is_urgent: bool = False) -> None:
        """Have `key` looked at as soon as possible; after its worker, if it has one."""
        self._later.pop(key, None)
        if key in self._processing:
            # NB: never with two workers at once. Both would decide on what they saw, and of two
            # starts of one attempt only the names would be left to tell that they are the same.
            self._dirty[key] = is_urgent or self._dirty.get(key, False)
        elif key in self._urgent:
            return
        elif is_urgent:
            self._urgent[key] = self._ready.pop(key, now)
        else:
            self._ready.setdefault(key, now)

    def add_at(self, key: Key, *, at: float) -> None:
        """Have `key` looked at at `at` at the latest."""
        is_next = any(key in line for line in (self._urgent, self._ready, self._dirty))
        if not is_next and at < self._later.get(key, float("inf")):
            self._later[key] = at
            heapq.heappush(self._due, (at, key))

    def take(self, *, now: float) -> Key | None:
        """The key that is to be looked at next; None if there is nothing to do yet."""
        while (at := self.next_time()) is not None and at <= now:
            self.add(self._due[0][1], now=now)
        waiting_since = next(iter(self._ready.values()), now)
        # New jobs come by the thousand, and each is urgent: without patience what only resyncs
        # would not be looked at before the last of them has started.
        is_patient = now - waiting_since < PATIENCE_S
        line = self._urgent if self._urgent and is_patient else self._ready
        if not line:
            return None
        key = next(iter(line))
        self._waited(key, now - line.pop(key))
        self._processing[key] = now
        return key

    def longest_wait(self, *, now: float) -> float:
        """Seconds for which a key has waited in its line, at most."""
        return now - min((*self._urgent.values(), *self._ready.values()), default=now)

    def work_times(self, *, now: float, kind: str | None = None) -> list[float]:
        """Seconds for which each key, of one kind or of all, has been with its worker."""
        processing = self._processing.items()
        return [now - since for key, since in processing if kind in {None, key.kind}]

    def done(self, key: Key, *, now: float) -> None:
        """The worker of `key` has finished, and its failures are forgotten."""
        self._failures.pop(key, None)
        self._processing.pop(key, None)
        is_urgent = self._dirty.pop(key, None)
        if is_urgent is not None:
            self.add(key, now=now, is_urgent=is_urgent)

    def failed(self, key: Key, *, now: float) -> float:
        """The worker of `key` has failed; it is tried again after the seconds returned."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(FIRST_DELAY_S * 2 ** min(failures - 1, _MAX_DOUBLINGS), MAX_DELAY_S)
        # What was added meanwhile waits for the same delay, or events would undo the back-off.
        self._dirty.pop(key, None)
        self._processing.pop(key, None)
        self.add_at(key, at=now + delay)
        return delay

    def next_time(self) -> float | None:
        """When the next delayed key is due."""
        while self._due and self._later.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None


class WorkQueue:
    """A `Backlog` that workers wait on; `waited` is told how long each key was in its line."""

    def __init__(self, *, waited: Waited = _unnoticed) -> None:
        self._backlog = Backlog(waited=waited)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._backlog)

    def depth(self, kind: str) -> int:
        """How many keys of a kind wait."""
        return self._backlog.depth(kind)

    def add(self, key: Key, *, after_s: float = 0.0, is_urgent: bool = False) -> None:
        """Have `key` looked at, at once or later; before others, if it is urgent and waits."""
        if after_s > 0:
            self._backlog.add_at(key, at=_now() + after_s)
            self._wake_when_due()
        else:
            self._backlog.add(key, now=_now(), is_urgent=is_urgent)
            self._wake()

    async def take(self) -> Key:
        """Wait for a key."""
        while (key := self._backlog.take(now=_now())) is None:
            self._wake_when_due()
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        self._wake_when_due()
        if len(self._backlog):
            self._wake()
        return key

    def longest_wait(self) -> float:
        """Seconds for which a key has waited in its line, at most."""
        return self._backlog.longest_wait(now=_now())

    def work_times(self, kind: str | None = None) -> list[float]:
        """Seconds for which each key, of one kind or of all, has been with its worker."""
        return self._backlog.work_times(now=_now(), kind=kind)

    def done(self, key: Key) -> None:
        """The look at `key` has succeeded."""
        self._backlog.done(key, now=_now())

    def failed(self, key: Key) -> float:
        """The look at `key` has failed; it is repeated after the seconds returned."""
        delay = self._backlog.failed(key, now=_now())
        self._wake_when_due()
        return delay

    def _wake(self) -> None:
        # One worker for a key, and not all of them for each. Who was woken wakes the next if there
        # are more, and the turn of one that was cancelled, whose future is done, goes to the next.
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    def _wake_when_due(self) -> None:
        due = self._backlog.next_time()
        if due is None or (self._timer and self._timer.when() <= due):
            return
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        self._wake()


def _now() -> float:
    # The clock of the timers: with another one a key could be woken for before it is due.
    return asyncio.get_running_loop().time()
