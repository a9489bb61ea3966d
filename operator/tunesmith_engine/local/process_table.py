"""What runs on this machine, as Linux tells it in /proc: to find all that a stage has started.

A stage and everything it starts inherit a marker in their environment. Daemons that open sessions
of their own keep it, and so do orphans whose parent is gone. What cleared its environment is found
as a child of something that did not. A process is known by its number and its start time, since
numbers are used again.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_api.base import ApiModel

MARKER: Final = "TUNESMITH_ATTEMPT"
_PROC: Final = Path("/proc")
_ENDED: Final = frozenset("ZX")


class ProcessIdentity(ApiModel):
    """A process that no other can be mistaken for: `start` is in clock ticks since `boot`."""

    pid: int
    start: int
    boot: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One live process."""

    identity: ProcessIdentity
    parent: int


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a live process; None if there is none of that number."""
    seen = _look(pid)
    return seen.identity if seen else None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs; a zombie does not."""
    return identify(identity.pid) == identity


def belonging_to(folder: Path, *, known: Iterable[ProcessIdentity] = ()) -> list[ProcessIdentity]:
    """Live processes of the attempts in `folder`, those in `known`, and all their descendants."""
    everything = {seen.identity.pid: seen for seen in _all()}
    marked = {pid for pid in everything if _is_marked(pid, folder=folder)}
    marked |= {
        each.pid
        for each in known
        if each.pid in everything and everything[each.pid].identity == each
    }
    size = -1
    while len(marked) != size:
        size = len(marked)
        marked |= {pid for pid, seen in everything.items() if seen.parent in marked}
    return [everything[pid].identity for pid in sorted(marked - {os.getpid()})]


def send(identity: ProcessIdentity, number: int) -> None:
    """Signal this very process; one that has ended is left alone."""
    if is_alive(identity):
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def _all() -> list[Seen]:
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    return [seen for pid in pids if (seen := _look(pid))]


def _look(pid: int) -> Seen | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything, spaces and parentheses too.
    fields = text.rpartition(")")[2].split()
    state, parent, start = fields[0], int(fields[1]), int(fields[19])
    if state in _ENDED:
        return None
    return Seen(ProcessIdentity(pid=pid, start=start, boot=_boot()), parent=parent)


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _is_marked(pid: int, *, folder: Path) -> bool:
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    wanted = os.fsencode(f"{MARKER}={folder}")
    return any(each == wanted or each.startswith(wanted + b"/") for each in variables)
