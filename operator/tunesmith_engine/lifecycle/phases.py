"""The words and weights that belong to a stage: its phase, its condition, its part of the work."""

from collections.abc import Mapping
from typing import Final

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE, PREPARE, PUBLISH, TRAIN, VERIFY

PHASES: Final[Mapping[str, Phase]] = {
    PREPARE.name: PREPARE.phase,
    TRAIN.name: TRAIN.phase,
    EVALUATE.name: EVALUATE.phase,
    COMPRESS.name: COMPRESS.phase,
    VERIFY.name: VERIFY.phase,
    PUBLISH.name: PUBLISH.phase,
}

CONDITIONS: Final[Mapping[str, ConditionType]] = {
    PREPARE.name: PREPARE.condition,
    TRAIN.name: TRAIN.condition,
    EVALUATE.name: EVALUATE.condition,
    COMPRESS.name: COMPRESS.condition,
    VERIFY.name: VERIFY.condition,
    PUBLISH.name: PUBLISH.condition,
}

# Rough parts of a job's time; they only move the percentage.
WEIGHTS: Final[Mapping[str, float]] = {
    PREPARE.name: 5.0,
    TRAIN.name: 55.0,
    EVALUATE.name: 10.0,
    COMPRESS.name: 10.0,
    VERIFY.name: 15.0,
    PUBLISH.name: 5.0,
}


def is_at_rest(status: FineTuneJobStatus) -> bool:
    """Whether the job is over, or stopped with nothing left running: an executor may go home."""
    if status.is_finished:
        return True
    is_running = any(stage.is_under_way for stage in status.stages)
    return status.phase == Phase.SUSPENDED and not is_running
