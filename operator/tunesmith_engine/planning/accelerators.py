"""How many accelerators each stage uses: what a cluster is asked for, and what a job is billed.

Stages that read and write files use none, those that only run a trained model use one. How much
memory one has is known where a field of the job tells.
"""

import re
from typing import Final

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_engine.stages.catalog import PREPARE, PUBLISH, TRAIN
from tunesmith_engine.stages.contracts import StageName

# A label of nodes, in MiB, from NVIDIA's GPU Feature Discovery.
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"

_WITHOUT: Final = frozenset({PREPARE.name, PUBLISH.name})
# nvidia.com/mig-1g.10gb: a slice of computing, and its memory.
_MIG_PROFILE: Final = re.compile(r"nvidia\.com/mig-\d+g\.(\d{1,4})gb")


def accelerators_of(stage: StageName, resources: Resources) -> int:
    """The accelerators of all pods of the stage together."""
    if stage in _WITHOUT:
        return 0
    if stage == TRAIN.name:
        return resources.workers * resources.gpus_per_worker
    return min(1, resources.gpus_per_worker)


def accelerator_memory(resources: Resources) -> tuple[int, str] | None:
    """The memory of each accelerator in bytes, and the field that tells; None where none does."""
    profile = _MIG_PROFILE.match(resources.accelerator)
    if profile is not None:
        return int(profile[1]) << 30, f"resources.accelerator: {resources.accelerator}"
    labelled = resources.node_selector.get(MEMORY_LABEL, "")
    if labelled.isascii() and labelled.isdigit():
        return int(labelled) << 20, f"resources.nodeSelector {MEMORY_LABEL}: {labelled}"
    return None
