"""What runs on this machine, as Linux tells it in /proc: to find all that a stage has started.

A stage and everything it starts inherit a marker in their environment. Daemons that open sessions
of their own keep it, as those of Ray and vLLM do, and so do orphans whose parent is gone: process
groups and sessions alone would miss both. What cleared its environment is found as a child of
something that did not.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_api.base import ApiModel

MARKER: Final = "TUNESMITH_ATTEMPT"
_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
# Zombies and the dead: they run nothing, and only their parent can reap them.
_ENDED: Final = frozenset("ZX")


class ProcessIdentity(ApiModel):
    """A process that no other can be mistaken for: `start` is in clock ticks since `boot`.

    The kernel gives numbers out again, and all of them after a boot; a killed run may be followed
    by the next one days later.
    """

    pid: int
    start: int
    boot: str


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """One process that runs."""

    identity: ProcessIdentity
    parent: int


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a live process; None if there is none of that number."""
    process = _read_stat(pid)
    return process.identity if process else None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs; a zombie does not."""
    return identify(identity.pid) == identity


def find_processes(folder: Path, *, known: Iterable[ProcessIdentity] = ()) -> list[ProcessIdentity]:
    """Live processes of the attempts in `folder`, those in `known`, and all their descendants."""
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    # NB: no snapshot. Processes come and go while /proc is read, so one that is started meanwhile
    # may be missed: whoever ends them looks again until nothing is found.
    processes = {pid: process for pid in pids if (process := _read_stat(pid))}
    chosen = {pid for pid in processes if _is_marked(pid, folder=folder)}
    chosen |= {
        identity.pid
        for identity in known
        if identity.pid in processes and processes[identity.pid].identity == identity
    }
    size = -1
    while len(chosen) != size:
        size = len(chosen)
        chosen |= {pid for pid, process in processes.items() if process.parent in chosen}
    # A run that was itself started within a stage inherits the marker, and must not end itself.
    return [processes[pid].identity for pid in sorted(chosen - {os.getpid()})]


def send_signal(identity: ProcessIdentity, number: int) -> None:
    """Signal this very process; one that has ended is left alone."""
    # Between the look and the kill its number could go to another only if the kernel went through
    # all numbers meanwhile.
    if is_alive(identity):
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def count_oom_kills() -> int:
    """How often Linux has killed something for want of memory, as far as it tells a user.

    In this process's cgroup, or else on the whole machine; 0 where it cannot be known.
    """
    for path in (_own_memory_events(), _CGROUPS / "memory.events", Path("/proc/vmstat")):
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            # Version 1 of cgroups has no such file, nor has a kernel without the controller.
            continue
        counts = [line.split()[1] for line in lines if line.split()[:1] == ["oom_kill"]]
        if counts:
            return int(counts[0])
    return 0


def _own_memory_events() -> Path:
    try:
        line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
    except (OSError, IndexError):
        return _CGROUPS / "memory.events"
    return _CGROUPS / line.rpartition(":")[2].lstrip("/") / "memory.events"


def _read_stat(pid: int) -> LiveProcess | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # It has ended since its number was listed.
        return None
    # The name in parentheses may hold anything, spaces and parentheses too. After it come, in the
    # count of proc(5), fields 3 (state), 4 (parent) and 22 (start).
    fields = text.rpartition(")")[2].split()
    state, parent, start = fields[0], int(fields[1]), int(fields[19])
    if state in _ENDED:
        return None
    return LiveProcess(ProcessIdentity(pid=pid, start=start, boot=boot), parent=parent)


def _is_marked(pid: int, *, folder: Path) -> bool:
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        # It has ended, or belongs to another user, and is none of ours.
        return False
    wanted = os.fsencode(f"{MARKER}={folder}")
    # With the slash, so that attempt 1 is not taken for attempt 10.
    return any(variable == wanted or variable.startswith(wanted + b"/") for variable in variables)
