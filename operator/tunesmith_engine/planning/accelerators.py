"""How many accelerators each stage uses: what a cluster is asked for, and what a job is billed.

Stages that read and write files use none, those that only run a trained model use one.
"""

from typing import Final

from tunesmith_api.execution import Resources
from tunesmith_engine.stages.contracts import StageName

_WITHOUT: Final = frozenset({StageName.PREPARE, StageName.PUBLISH})


def accelerators_of(stage: StageName, resources: Resources) -> int:
    """The accelerators of all pods of the stage together."""
    if stage in _WITHOUT:
        return 0
    if stage is StageName.TRAIN:
        return resources.workers * resources.gpus_per_worker
    return min(1, resources.gpus_per_worker)
