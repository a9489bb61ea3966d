"""Whether Linux killed something for want of memory, as far as it tells an ordinary user."""

from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")


def count_oom_kills() -> int:
    """How often that happened so far, in this process's cgroup or else on the whole machine.

    0 where it cannot be known.
    """
    for path in (_own_events(), _CGROUPS / "memory.events", Path("/proc/vmstat")):
        count = _count(path)
        if count is not None:
            return count
    return 0


def _own_events() -> Path:
    try:
        line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
    except (OSError, IndexError):
        return _CGROUPS / "memory.events"
    return _CGROUPS / line.rpartition(":")[2].lstrip("/") / "memory.events"


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.split()[:1] == ["oom_kill"]]
    return int(found[0]) if found else None
