"""Processes that work on blocks of rows, for what takes milliseconds a row and needs no others.

Blocks go out in turn and come back in their order, so that who reads the results sees what one
process would have made. Each process has one block at a time. It ends when its pipe does: a stage
that is killed leaves none behind.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Final, Generic, TypeVar

from tunesmith_engine.capacity import memory_bytes
from tunesmith_engine.stages.memory import PROCESS_BYTES

# More hardly keep pace with the one that reads and writes their rows.
_MOST: Final = 8
# Of few rows the imports of each process take longer than the rows.
FEWEST_ROWS: Final = 20_000
_BLOCK_ROWS: Final = 256

Item = TypeVar("Item")
Result = TypeVar("Result")


def processes_for(num_rows: int) -> int:
    """How many processes there is work, processors and memory for, beside this one; maybe none."""
    if num_rows < FEWEST_ROWS:
        return 0
    room = memory_bytes() // PROCESS_BYTES - 1
    number = min(len(os.sched_getaffinity(0)), _MOST, room)
    return number if number > 1 else 0


class RowProcesses(Generic[Item, Result]):
    """Processes that each build a worker, by calling `build`, and hand it lists of rows."""

    def __init__(self, number: int, build: Callable[[], Callable[[list[Item]], Result]]) -> None:
        self._number = number
        self._build = build

    def results(self, rows: Iterable[Item]) -> Iterator[Result]:
        """What the workers make of the blocks of `rows`, in order.

        Raises:
            RuntimeError: a process has ended; what it said is on its standard error.
        """
        with ExitStack() as ended:
            idle = [ended.enter_context(self._start()) for _ in range(self._number)]
            busy: deque[Connection[Any, Any]] = deque()
            for block in _blocks(rows):
                # NB: read before written, or both sides could wait for the other to read.
                results = [] if idle else [_received(busy[0])]
                pipe = idle.pop() if idle else busy.popleft()
                pipe.send(block)
                busy.append(pipe)
                yield from results
            yield from map(_received, busy)

    def _start(self) -> "Connection[Any, Any]":
        # Not forked: libraries of this process have threads.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, self._build), daemon=True).start()
        theirs.close()
        return ours


def _blocks(rows: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(rows)
    while block := list(islice(left, _BLOCK_ROWS)):
        yield block


def _received(pipe: "Connection[Any, Any]") -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise RuntimeError("a process that works on rows has ended") from error


def _serve(
    pipe: "Connection[Any, Any]", build: Callable[[], Callable[[list[Any]], object]]
) -> None:
    """The life of a process."""
    work = build()
    with suppress(EOFError):
        while True:
            pipe.send(work(pipe.recv()))
