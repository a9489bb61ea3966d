"""Jobs that cannot go on, for which `advance` cannot speak.

One whose spec this release cannot read has failed with `InvalidSpec`, until it can be read:
definitions that are newer than the operator let fields through that it does not know, and such a
job has no plan. One whose next step the API server refuses stands still with `Forbidden`.
"""

from datetime import datetime

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.conditions import job_conditions, merged


def refused(
    status: FineTuneJobStatus | None, *, generation: int, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status of a job that cannot be read; what was known of its stages and numbers stays.

    A job that was over at this generation already stays as it ended.
    """
    status = status or FineTuneJobStatus()
    if status.is_finished and status.observed_generation == generation:
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


def blocked(
    status: FineTuneJobStatus | None, *, generation: int, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status of a job whose next step the API server refuses: it stands still, and says why."""
    status = status or FineTuneJobStatus()
    kept = {each.type: each for each in status.conditions}
    told = job_conditions(
        status.phase, is_at_rest=False, reason=Reason.FORBIDDEN, message=message, now=now
    )
    kept |= {
        each.type: each for each in merged(told, before=status.conditions, generation=generation)
    }
    return status.model_copy(update={"conditions": list(kept.values())})


def is_blocked(status: FineTuneJobStatus | None) -> bool:
    """Whether the status says that the API server refused the next step."""
    conditions = status.conditions if status else ()
    return any(each.reason == Reason.FORBIDDEN for each in conditions)


def is_refused(status: FineTuneJobStatus) -> bool:
    """Whether the job failed because it could not be read, and not by the verdict of a stage."""
    if any(stage.state == "Failed" for stage in status.stages):
        return False
    return any(
        each.type == ConditionType.FAILED
        and each.status == "True"
        and each.reason == Reason.INVALID_SPEC
        for each in status.conditions
    )


def taken_back(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status to go on from, now that the job can be read."""
    return status.model_copy(update={"phase": Phase.PENDING, "completion_time": None})
