"""The queue of keys to look at: deduplicated, one worker per key, failures back off.

What controllers call a rate-limited work queue, with two lines: where many wait, those come first
for which something is to be done, and what is only to be noted comes after. Handlers only add keys;
what is to be done is seen when a worker looks at the object, so an event that is missed or repeated
does no harm.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Final

FIRST_DELAY_S: Final = 0.005
MAX_DELAY_S: Final = 300.0
# Seconds after which a key has waited long enough to come before the urgent ones.
PATIENCE_S: Final = 30.0
_MAX_DOUBLINGS: Final = 20

Key = tuple[str, str]


class Backlog:
    """The bookkeeping of the queue: it never waits, and is told what time it is.

    `waited` is told how many seconds each key was in its line.
    """

    def __init__(self, *, waited: Callable[[float], None] = lambda _: None) -> None:
        self._waited = waited
        self._urgent: dict[Key, float] = {}
        self._ready: dict[Key, float] = {}
        self._later: dict[Key, float] = {}
        self._due: list[tuple[float, Key]] = []
        self._busy: dict[Key, float] = {}
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ready)

    def add(self, key: Key, *, now: float, is_urgent: bool = False) -> None:
        """Have `key` looked at as soon as possible; after its worker, if it has one."""
        self._later.pop(key, None)
        if key in self._busy:
            self._again[key] = is_urgent or self._again.get(key, False)
        elif key in self._urgent:
            return
        elif is_urgent:
            self._urgent[key] = self._ready.pop(key, now)
        else:
            self._ready.setdefault(key, now)

    def add_at(self, key: Key, *, at: float) -> None:
        """Have `key` looked at at `at` at the latest."""
        is_next = any(key in each for each in (self._urgent, self._ready, self._again))
        if not is_next and at < self._later.get(key, float("inf")):
            self._later[key] = at
            heapq.heappush(self._due, (at, key))

    def take(self, *, now: float) -> Key | None:
        """The key that is to be looked at next; None if there is nothing to do yet."""
        while self._next_due() <= now:
            self.add(self._due[0][1], now=now)
        line = self._line(now=now)
        if not line:
            return None
        key = next(iter(line))
        self._waited(now - line.pop(key))
        self._busy[key] = now
        return key

    def longest_wait(self, *, now: float) -> float:
        """Seconds for which a key has waited in its line, at most."""
        return now - min((*self._urgent.values(), *self._ready.values()), default=now)

    def work_times(self, *, now: float) -> list[float]:
        """Seconds for which each key that is being looked at has been with its worker."""
        return [now - since for since in self._busy.values()]

    def done(self, key: Key, *, now: float) -> None:
        """The worker of `key` has finished, and its failures are forgotten."""
        self._failures.pop(key, None)
        self._busy.pop(key, None)
        is_urgent = self._again.pop(key, None)
        if is_urgent is not None:
            self.add(key, now=now, is_urgent=is_urgent)

    def failed(self, key: Key, *, now: float) -> float:
        """The worker of `key` has failed; it is tried again after the seconds returned."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(FIRST_DELAY_S * 2 ** min(failures - 1, _MAX_DOUBLINGS), MAX_DELAY_S)
        self._again.pop(key, None)
        self._busy.pop(key, None)
        self.add_at(key, at=now + delay)
        return delay

    def next_time(self) -> float | None:
        """When the next delayed key is due."""
        at = self._next_due()
        return None if at == float("inf") else at

    def _line(self, *, now: float) -> dict[Key, float]:
        waiting_since = next(iter(self._ready.values()), now)
        is_patient = now - waiting_since < PATIENCE_S
        return self._urgent if self._urgent and is_patient else self._ready

    def _next_due(self) -> float:
        """When the first entry of the schedule is due that still counts."""
        while self._due and self._later.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else float("inf")


class WorkQueue:
    """A `Backlog` that workers wait on; `waited` is told how long each key was in its line."""

    def __init__(self, *, waited: Callable[[float], None] = lambda _: None) -> None:
        self._backlog = Backlog(waited=waited)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._backlog)

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

    def work_times(self) -> list[float]:
        """Seconds for which each key that is being looked at has been with its worker."""
        return self._backlog.work_times(now=_now())

    def done(self, key: Key) -> None:
        """The look at `key` has succeeded."""
        self._backlog.done(key, now=_now())

    def failed(self, key: Key) -> float:
        """The look at `key` has failed; it is repeated after the seconds returned."""
        delay = self._backlog.failed(key, now=_now())
        self._wake_when_due()
        return delay

    def _wake(self) -> None:
        """Let one idle worker look for a key; it wakes the next one if there are more."""
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
    return asyncio.get_running_loop().time()
