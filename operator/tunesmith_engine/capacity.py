"""What this machine has, and whether a job fits, here or where its pods will run.

Asked before the first stage starts, and by `prepare`, which in a cluster shares its machine with no
other stage: those are judged by what they are given.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.reasons import Reason
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import GivenMemory, StageName, StageRequest
from tunesmith_engine.stages.memory import RAY_BYTES

# Of control groups, version 2 and 1. Without a limit the first says `max`, the second a number
# larger than any machine's memory.
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_GIB: Final = 1 << 30
# The mildest changes that fit; the others are harder still.
_NUM_WAYS: Final = 3

# The kind of accelerator that nvidia-smi counts.
NVIDIA: Final = "nvidia.com/gpu"
_ANSWERS_WITHIN_S: Final = 20.0

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


@dataclass(frozen=True, slots=True)
class Accelerators:
    """Those of one kind in this machine; `least_bytes` is the memory of the smallest."""

    count: int
    least_bytes: int


def accelerators_here(resources: Resources) -> Accelerators | None:
    """The accelerators of the kind that `resources` name in this machine.

    None where the job asks for none, or the kind cannot be counted without its libraries.
    """
    if resources.gpus_per_worker == 0 or resources.accelerator != NVIDIA:
        return None
    sizes = _nvidia_memory()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # What it names may be numbers or identifiers; how many count either way.
        sizes = sizes[
            : len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
        ]
    return Accelerators(count=len(sizes), least_bytes=min(sizes, default=0))


def _nvidia_memory() -> list[int]:
    """Bytes of each card that the driver shows."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    told = subprocess.run(
        [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=_ANSWERS_WITHIN_S,
        check=False,
    )
    return [int(line) << 20 for line in told.stdout.split() if line.isdecimal()]


def accelerator_memory(resources: Resources) -> tuple[int, str] | None:
    """The memory of each accelerator in bytes, and the field that tells; None where none does."""
    profile = _MIG_PROFILE.match(resources.accelerator)
    if profile is not None:
        return int(profile[1]) << 30, f"resources.accelerator: {resources.accelerator}"
    labelled = resources.node_selector.get(MEMORY_LABEL, "")
    if labelled.isascii() and labelled.isdigit():
        return int(labelled) << 20, f"resources.nodeSelector {MEMORY_LABEL}: {labelled}"
    return None


def room_of_worker(
    resources: Resources,
    *,
    given: GivenMemory | None = None,
    accelerators: Accelerators | None = None,
) -> int | None:
    """The bytes that each worker of training may take: of its accelerator, where it has one.

    `given` is what training gets in a cluster, None on this machine, whose `accelerators` these
    are. None where nothing tells.
    """
    if resources.gpus_per_worker:
        if given is not None:
            return given.size_bytes if given.is_per_accelerator else None
        return accelerators.least_bytes if accelerators else None
    has = memory_bytes() if given is None else given.size_bytes
    return max(0, has - RAY_BYTES) // resources.workers


def room_for_training(request: StageRequest) -> int | None:
    """As `room_of_worker`, for the job of a stage that asks, here or in a cluster."""
    resources = request.spec.resources
    if request.memory is None:
        return room_of_worker(resources, accelerators=accelerators_here(resources))
    given = request.memory.get(TRAIN.name)
    return room_of_worker(resources, given=given) if given else None


@dataclass(frozen=True, slots=True)
class Shortage:
    """What there is too little of, with numbers, and what to do."""

    reason: Reason
    message: str


def shortage_of_accelerators(
    resources: Resources, accelerators: Accelerators | None
) -> Shortage | None:
    """Whether this machine has an accelerator for each worker, as far as it can be counted."""
    wanted = resources.workers * resources.gpus_per_worker
    if accelerators is None or wanted <= accelerators.count:
        return None
    lower = (
        f"lower resources.workers to {accelerators.count}"
        if accelerators.count
        else "run it in a cluster"
    )
    return Shortage(
        Reason.RESOURCES_UNAVAILABLE,
        f"resources.gpusPerWorker: {counted_workers(resources)} ask for {wanted} of "
        f"{resources.accelerator}, and this machine has {accelerators.count}; {lower}, or set "
        "gpusPerWorker: 0 to train on the processor",
    )


def counted_workers(resources: Resources) -> str:
    """The workers, in words."""
    return "1 worker" if resources.workers == 1 else f"{resources.workers} workers"


def shortage_of_room(
    needed: Estimate,
    *,
    stages: frozenset[StageName],
    folder: Path,
    has_bytes: int,
    accelerators: Accelerators | None = None,
) -> Shortage | None:
    """What the job lacks here: for its `stages` still to run, and for what they write to `folder`.

    `has_bytes` of the estimated disk are written already.
    """
    if not stages:
        return None
    wanted, free = needed.disk_bytes - has_bytes, free_disk_bytes(folder)
    shortage = shortage_of_memory(needed, stages=stages, accelerators=accelerators)
    if shortage is not None or wanted <= free:
        return shortage
    return Shortage(
        Reason.DISK_ESTIMATE_EXCEEDED,
        f"the job is estimated to write {in_gib(wanted)} more, and {folder} has {in_gib(free)} "
        "free; free space, lower checkpoint.keep, or take a larger disk (--home, or "
        "workspace.size)",
    )


def shortage_of_memory(
    needed: Estimate, *, stages: frozenset[StageName], accelerators: Accelerators | None = None
) -> Shortage | None:
    """The hungriest of `stages`, if there is too little memory for it, or on its accelerators."""
    memory = {name: size for name, size in needed.memory_bytes.items() if name in stages}
    hungriest = max(memory, key=lambda name: memory[name], default=None)
    has_memory = memory_bytes()
    if hungriest is not None and memory[hungriest] > has_memory:
        return Shortage(
            Reason.MEMORY_ESTIMATE_EXCEEDED,
            f"{hungriest} is estimated to take {in_gib(memory[hungriest])} of memory, and this "
            f"machine has {in_gib(has_memory)}; "
            + _remedy(needed, hungriest, has_memory, larger="take a larger machine"),
        )
    if accelerators and TRAIN.name in stages and needed.fit.on_accelerators:
        held = GivenMemory(
            size_bytes=accelerators.least_bytes,
            given_by="the accelerator of this machine",
            is_per_accelerator=True,
        )
        return shortage_of_given(needed, {TRAIN.name: held})
    return None


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
    message = _told(needed, hungriest, given[hungriest])
    return Shortage(Reason.MEMORY_ESTIMATE_EXCEEDED, message)


def unjudged_memory(
    needed: Estimate, given: Mapping[StageName, GivenMemory], *, on_accelerators: bool
) -> str | None:
    """What training will take, where nothing tells whether it gets that; else None."""
    if TRAIN.name in given:
        return None
    if on_accelerators:
        kept = in_gib(needed.fit.worker.total)
        return f"train will take about {kept} of each accelerator; whether it has that is not known"
    wanted = in_gib(needed.memory_bytes[TRAIN.name])
    return f"train will ask for its estimate, {wanted}; whether a node has that is not known"


def _told(needed: Estimate, stage: StageName, memory: GivenMemory) -> str:
    has, wanted = in_gib(memory.size_bytes), in_gib(_wanted(needed, stage, memory))
    if memory.is_per_accelerator:
        larger = "a larger resources.accelerator"
        return (
            f"{stage} is estimated to take {wanted} of each accelerator, and {memory.given_by} has "
            f"{has}; {_remedy(needed, stage, memory.size_bytes, larger=larger)}"
        )
    larger = "raise resources.memory"
    return (
        f"{stage} is estimated to take {wanted} of memory, and {memory.given_by} gives it {has}; "
        f"{_remedy(needed, stage, memory.size_bytes, larger=larger)}"
    )


def _wanted(needed: Estimate, stage: StageName, memory: GivenMemory) -> int:
    return needed.fit.worker.total if memory.is_per_accelerator else needed.memory_bytes[stage]


def _remedy(needed: Estimate, stage: StageName, has: int, *, larger: str) -> str:
    """What would make `stage` fit into `has` bytes, with its figure, or how near one comes."""
    if stage != TRAIN.name:
        return f"take a smaller model, or {larger}"
    ways = [(way.change, needed.fit.with_workers_of(way.worker_bytes)) for way in needed.fit.ways]
    fitting = [f"{change} ({in_gib(size)})" for change, size in ways if size <= has]
    if fitting:
        return f"what fits: {', or '.join(fitting[:_NUM_WAYS])}; or {larger}"
    nearest = min(ways, key=lambda way: way[1], default=None)
    told = f"even {nearest[0]} takes {in_gib(nearest[1])}; " if nearest else ""
    return f"{told}take a smaller model, or {larger}"


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def in_gib(size: int) -> str:
    """`3.2 GiB`."""
    return f"{size / _GIB:.1f} GiB"
