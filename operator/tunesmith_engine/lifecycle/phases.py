"""The words and weights that belong to a stage: its phase, its condition, its part of the work."""

from collections.abc import Mapping
from typing import Final

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.stages.contracts import StageName

PHASES: Final[Mapping[str, Phase]] = {
    StageName.PREPARE: Phase.PREPARING,
    StageName.TRAIN: Phase.TRAINING,
    StageName.EVALUATE: Phase.EVALUATING,
    StageName.COMPRESS: Phase.COMPRESSING,
    StageName.VERIFY: Phase.VERIFYING,
    StageName.PUBLISH: Phase.PUBLISHING,
}

CONDITIONS: Final[Mapping[str, ConditionType]] = {
    StageName.PREPARE: ConditionType.DATA_READY,
    StageName.TRAIN: ConditionType.TRAINED,
    StageName.EVALUATE: ConditionType.EVALUATED,
    StageName.COMPRESS: ConditionType.COMPRESSED,
    StageName.VERIFY: ConditionType.VERIFIED,
    StageName.PUBLISH: ConditionType.PUBLISHED,
}

# Rough parts of a job's time; they only move the percentage.
WEIGHTS: Final[Mapping[str, float]] = {
    StageName.PREPARE: 5.0,
    StageName.TRAIN: 55.0,
    StageName.EVALUATE: 10.0,
    StageName.COMPRESS: 10.0,
    StageName.VERIFY: 15.0,
    StageName.PUBLISH: 5.0,
}


def is_at_rest(status: FineTuneJobStatus) -> bool:
    """Whether the job is over, or stopped with nothing left running: an executor may go home."""
    if status.is_finished:
        return True
    is_running = any(stage.is_under_way for stage in status.stages)
    return status.phase == Phase.SUSPENDED and not is_running
