"""The memory that this process and its device use, for the curve and the facts of training."""

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

_STATM: Final = Path("/proc/self/statm")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes: resident now, the most that were, and the most that tensors held of the device.

    The last is None where the processor trains.
    """

    resident: int
    peak_resident: int
    peak_device: int | None


def memory_usage(device: torch.device) -> MemoryUsage:
    """Of this process, and of `device` for this process."""
    # Its second number counts pages; Linux alone has it, and so do all machines that train.
    resident = int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
    return MemoryUsage(
        resident=resident,
        # The kernel counts it in larger portions, so that it may lag behind.
        peak_resident=max(peak, resident),
        peak_device=None
        if device.type == "cpu"
        else int(torch.accelerator.max_memory_allocated(device)),
    )
