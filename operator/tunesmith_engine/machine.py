"""What this machine has, and whether a job fits.

Asked before the first stage starts, and by `prepare` for the machine that it runs on.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.stages.contracts import StageName

_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_GIB: Final = 1 << 30


def memory_bytes() -> int:
    """The memory that processes here may use: the machine's, or the container's if that is less."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([installed, *(limit for path in _LIMITS if (limit := _limit(path)))])


def free_disk_bytes(folder: Path) -> int:
    """What can still be written where `folder` lies or will lie."""
    existing = next(
        each for each in (folder.absolute(), *folder.absolute().parents) if each.exists()
    )
    return shutil.disk_usage(existing).free


@dataclass(frozen=True, slots=True)
class Shortage:
    """What there is too little of, with numbers, and what to do."""

    reason: Reason
    message: str


def shortage_of_room(
    needed: Estimate, *, stages: frozenset[StageName], folder: Path, has_bytes: int
) -> Shortage | None:
    """What the job lacks: for its `stages` still to run, and for what they write to `folder`.

    `has_bytes` of the estimated disk are written already.
    """
    if not stages:
        return None
    wanted, free = needed.disk_bytes - has_bytes, free_disk_bytes(folder)
    if (shortage := shortage_of_memory(needed, stages=stages)) is not None or wanted <= free:
        return shortage
    return Shortage(
        Reason.DISK_ESTIMATE_EXCEEDED,
        f"the job is estimated to write {_gib(wanted)} more, and {folder} has {_gib(free)} "
        "free; free space, lower checkpoint.keep, or take a larger disk (--home, or "
        "workspace.size)",
    )


def shortage_of_memory(needed: Estimate, *, stages: frozenset[StageName]) -> Shortage | None:
    """The hungriest of `stages`, if there is too little memory for it."""
    memory = {name: size for name, size in needed.memory_bytes.items() if name in stages}
    hungriest = max(memory, key=lambda name: memory[name], default=None)
    has_memory = memory_bytes()
    if hungriest is None or memory[hungriest] <= has_memory:
        return None
    return Shortage(
        Reason.MEMORY_ESTIMATE_EXCEEDED,
        f"{hungriest} is estimated to take {_gib(memory[hungriest])} of memory, and this "
        f"machine has {_gib(has_memory)}; {_remedy(hungriest)}",
    )


def _remedy(stage: StageName) -> str:
    if stage is not StageName.TRAIN:
        return "take a smaller model, or a larger machine"
    return (
        "lower training.batch.microBatchSize or training.sequenceLength, or take a larger machine"
    )


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
