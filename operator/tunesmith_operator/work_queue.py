"""The queue of keys to look at: deduplicated, one worker per key, failures back off.

What controllers call a rate-limited work queue. Handlers only add keys; what is to be done is seen
when a worker looks at the object, so an event that is missed or repeated does no harm.
"""

import asyncio
from collections.abc import Callable
from typing import Final

FIRST_DELAY_S: Final = 0.005
MAX_DELAY_S: Final = 300.0
_MAX_DOUBLINGS: Final = 20

Key = tuple[str, str]


class Backlog:
    """The bookkeeping of the queue: it never waits, and is told what time it is."""

    def __init__(self) -> None:
        self._ready: dict[Key, float] = {}
        self._later: dict[Key, float] = {}
        self._busy: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: Key, *, now: float) -> None:
        """Have `key` looked at as soon as possible; after its worker, if it has one."""
        self._later.pop(key, None)
        if key in self._busy:
            self._again.add(key)
        else:
            self._ready.setdefault(key, now)

    def add_at(self, key: Key, *, at: float) -> None:
        """Have `key` looked at at `at` at the latest."""
        if key not in self._ready and key not in self._again:
            self._later[key] = min(at, self._later.get(key, at))

    def take(self, *, now: float) -> Key | None:
        """The key that has waited longest; None if there is nothing to do yet."""
        for key, at in list(self._later.items()):
            if at <= now:
                self.add(key, now=now)
        if not self._ready:
            return None
        key = next(iter(self._ready))
        del self._ready[key]
        self._busy[key] = now
        return key

    def longest_wait(self, *, now: float) -> float:
        """Seconds for which the first key in the line has waited."""
        return now - min(self._ready.values(), default=now)

    def work_times(self, *, now: float) -> list[float]:
        """Seconds for which each key that is being looked at has been with its worker."""
        return [now - since for since in self._busy.values()]

    def done(self, key: Key, *, now: float) -> None:
        """The worker of `key` has finished, and its failures are forgotten."""
        self._failures.pop(key, None)
        self._release(key, now=now)

    def failed(self, key: Key, *, now: float) -> float:
        """The worker of `key` has failed; it is tried again after the seconds returned."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(FIRST_DELAY_S * 2 ** min(failures - 1, _MAX_DOUBLINGS), MAX_DELAY_S)
        self._again.discard(key)
        self._busy.pop(key, None)
        self._later[key] = now + delay
        return delay

    def next_time(self) -> float | None:
        """When the next delayed key is due."""
        return min(self._later.values(), default=None)

    def _release(self, key: Key, *, now: float) -> None:
        self._busy.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key, now=now)


class WorkQueue:
    """A `Backlog` that workers wait on; `waited` is told how long each key was in the line."""

    def __init__(self, *, waited: Callable[[float], None] = lambda _: None) -> None:
        self._backlog = Backlog()
        self._waited = waited
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._backlog)

    def add(self, key: Key, *, after_s: float = 0.0) -> None:
        """Have `key` looked at, at once or later."""
        now = asyncio.get_running_loop().time()
        if after_s > 0:
            self._backlog.add_at(key, at=now + after_s)
        else:
            self._backlog.add(key, now=now)
        self._changed.set()

    async def take(self) -> Key:
        """Wait for a key."""
        loop = asyncio.get_running_loop()
        while True:
            longest = self._backlog.longest_wait(now=loop.time())
            key = self._backlog.take(now=loop.time())
            if key is not None:
                self._waited(longest)
                return key
            self._changed.clear()
            due = self._backlog.next_time()
            try:
                await asyncio.wait_for(
                    self._changed.wait(), None if due is None else max(0.0, due - loop.time())
                )
            except TimeoutError:
                continue

    def longest_wait(self) -> float:
        """Seconds for which the first key in the line has waited."""
        return self._backlog.longest_wait(now=asyncio.get_running_loop().time())

    def work_times(self) -> list[float]:
        """Seconds for which each key that is being looked at has been with its worker."""
        return self._backlog.work_times(now=asyncio.get_running_loop().time())

    def done(self, key: Key) -> None:
        """The look at `key` has succeeded."""
        self._backlog.done(key, now=asyncio.get_running_loop().time())
        self._changed.set()

    def failed(self, key: Key) -> float:
        """The look at `key` has failed; it is repeated after the seconds returned."""
        delay = self._backlog.failed(key, now=asyncio.get_running_loop().time())
        self._changed.set()
        return delay
