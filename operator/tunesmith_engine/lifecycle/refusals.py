"""A job whose spec this release cannot read: failed with `InvalidSpec`, until it can be read.

Definitions that are newer than the operator let fields through that it does not know. Such a job
has no plan, so that this stands beside `advance` and not in it.
"""

from datetime import datetime

from tunesmith_api.reasons import Reason
from tunesmith_api.status import ConditionType, FineTuneJobStatus, Phase
from tunesmith_engine.lifecycle.conditions import job_conditions, merged


def refused(
    status: FineTuneJobStatus | None, *, generation: int, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status of a job that cannot be read; what was known of its stages and numbers stays.

    A job that was over at this generation already stays as it ended.
    """
    status = status or FineTuneJobStatus()
    if status.phase.is_terminal and status.observed_generation == generation:
        return status
    kept = {each.type: each for each in status.conditions}
    told = job_conditions(
        Phase.FAILED, is_at_rest=True, reason=Reason.INVALID_SPEC, message=message, now=now
    )
    kept |= {
        each.type: each for each in merged(told, before=status.conditions, generation=generation)
    }
    update = {
        "observed_generation": generation,
        "phase": Phase.FAILED,
        "conditions": list(kept.values()),
        "completion_time": status.completion_time or now,
    }
    return status.model_copy(update=update)


def is_refused(status: FineTuneJobStatus) -> bool:
    """Whether the job failed because it could not be read, and not by the verdict of a stage."""
    if any(stage.state == "Failed" for stage in status.stages):
        return False
    return any(
        each.type is ConditionType.FAILED
        and each.status == "True"
        and each.reason == Reason.INVALID_SPEC
        for each in status.conditions
    )


def taken_back(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status to go on from, now that the job can be read."""
    return status.model_copy(update={"phase": Phase.PENDING, "completion_time": None})
