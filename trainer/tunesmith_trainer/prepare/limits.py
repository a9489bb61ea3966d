"""Whether this machine can hold the job, by the engine's estimate: asked before anything is made.

Memory is compared with what the machine has, or the control group allows, in all, since the stages
run one after another; disk with what is free where the stage writes.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from tunesmith_api.job import FineTuneJobSpec
from tunesmith_api.reasons import Reason
from tunesmith_engine.estimates import estimate
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.errors import BadInputError

_GIB: Final = 1 << 30
_GROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def refuse_too_large(spec: FineTuneJobSpec, facts: ModelFacts, *, folder: Path) -> None:
    """Return if the machine holds the job.

    Raises:
        BadInputError: the estimate of a stage exceeds the memory, or that of all the free disk.
    """
    estimated = estimate(spec, facts)
    stage, memory = max(estimated.memory_bytes.items(), key=lambda item: item[1])
    available = memory_bytes()
    if memory > available:
        raise BadInputError(
            Reason.MEMORY_ESTIMATE_EXCEEDED,
            f"the {stage} stage is estimated to take {memory / _GIB:.1f} GiB of memory, and this "
            f"machine has {available / _GIB:.1f} GiB; lower training.batch.microBatchSize or "
            "training.sequenceLength, or set training.method: lora",
        )
    free = free_disk_bytes(folder)
    if estimated.disk_bytes > free:
        raise BadInputError(
            Reason.DISK_ESTIMATE_EXCEEDED,
            f"the job is estimated to write {estimated.disk_bytes / _GIB:.1f} GiB, and "
            f"{free / _GIB:.1f} GiB are free in {folder}; free some, lower checkpoint.keep, or set "
            "training.method: lora",
        )


def memory_bytes() -> int:
    """The memory that processes of this machine, or of its control group, may use together."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *(limit for path in _GROUP_LIMITS if (limit := _limit(path)))])


def free_disk_bytes(folder: Path) -> int:
    """What can still be written in `folder`."""
    return shutil.disk_usage(folder).free


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
