"""What this machine has, and whether a job fits, here or where its pods will run.

Asked before the first stage starts, and by `prepare`, which in a cluster shares its machine with no
other stage: those are judged by what they are given.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.reasons import Reason
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import GivenMemory, StageName

# Of control groups, version 2 and 1. Without a limit the first says `max`, the second a number
# larger than any machine's memory.
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_GIB: Final = 1 << 30

# A label of nodes, in MiB, from NVIDIA's GPU Feature Discovery.
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
# nvidia.com/mig-1g.10gb: a slice of computing, and its memory.
_MIG_PROFILE: Final = re.compile(r"nvidia\.com/mig-\d+g\.(\d{1,4})gb")


def memory_bytes() -> int:
    """The memory that processes here may use: the machine's, or the container's if that is less."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([installed, *(limit for path in _LIMITS if (limit := _limit(path)))])


def free_disk_bytes(folder: Path) -> int:
    """What can still be written where `folder` lies or will lie."""
    existing = next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )
    return shutil.disk_usage(existing).free


def accelerator_memory(resources: Resources) -> tuple[int, str] | None:
    """The memory of each accelerator in bytes, and the field that tells; None where none does."""
    profile = _MIG_PROFILE.match(resources.accelerator)
    if profile is not None:
        return int(profile[1]) << 30, f"resources.accelerator: {resources.accelerator}"
    labelled = resources.node_selector.get(MEMORY_LABEL, "")
    if labelled.isascii() and labelled.isdigit():
        return int(labelled) << 20, f"resources.nodeSelector {MEMORY_LABEL}: {labelled}"
    return None


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
        f"machine has {_gib(has_memory)}; {_remedy(hungriest, larger='take a larger machine')}",
    )


def shortage_of_given(needed: Estimate, given: Mapping[StageName, GivenMemory]) -> Shortage | None:
    """The hungriest of the stages that are given less memory than they need."""
    lacking = {
        stage: wanted
        for stage, memory in given.items()
        if (wanted := _wanted(needed, stage, memory)) > memory.size_bytes
    }
    hungriest = max(lacking, key=lambda stage: lacking[stage], default=None)
    if hungriest is None:
        return None
    message = _told(hungriest, given[hungriest], wanted=_gib(lacking[hungriest]))
    return Shortage(Reason.MEMORY_ESTIMATE_EXCEEDED, message)


def unjudged_memory(
    needed: Estimate, given: Mapping[StageName, GivenMemory], *, on_accelerators: bool
) -> str | None:
    """What training will take, where nothing tells whether it gets that; else None."""
    if TRAIN.name in given:
        return None
    if on_accelerators:
        kept = _gib(needed.accelerator_bytes)
        return f"train keeps at least {kept} on each accelerator; whether it has that is not known"
    wanted = _gib(needed.memory_bytes[TRAIN.name])
    return f"train will ask for its estimate, {wanted}; whether a node has that is not known"


def _told(stage: StageName, memory: GivenMemory, *, wanted: str) -> str:
    has = _gib(memory.size_bytes)
    if memory.is_per_accelerator:
        return (
            f"{stage} keeps at least {wanted} on each accelerator, and {memory.given_by} has "
            f"{has}; take a smaller model, training.method: lora, or a larger resources.accelerator"
        )
    return (
        f"{stage} is estimated to take {wanted} of memory, and {memory.given_by} gives it {has}; "
        f"{_remedy(stage, larger='raise resources.memory')}"
    )


def _wanted(needed: Estimate, stage: StageName, memory: GivenMemory) -> int:
    return needed.accelerator_bytes if memory.is_per_accelerator else needed.memory_bytes[stage]


def _remedy(stage: StageName, *, larger: str) -> str:
    if stage != TRAIN.name:
        return f"take a smaller model, or {larger}"
    return f"lower training.batch.microBatchSize or training.sequenceLength, or {larger}"


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
