"""Jobs that cannot go on, and for which `advance` cannot speak since there is no plan or no step.

One whose spec this release cannot read has failed with `InvalidSpec`, until it can be read:
definitions that are newer than the operator let fields through that it does not know, and such a
job has no plan. One whose next step the API server refuses stands still with `Forbidden`.
"""

from datetime import datetime

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import merge_conditions
from tunesmith_engine.lifecycle.conditions import job_conditions


def reject_spec(
    status: FineTuneJobStatus | None, *, generation: int, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status of a job that cannot be read; what was known of its stages and numbers stays.

    A job that was over at this generation already stays as it ended.
    """
    status = status or FineTuneJobStatus()
    if status.is_finished and status.observed_generation == generation:
        return status
    rejected = _with_reason(
        status.model_copy(update={"phase": Phase.FAILED}),
        Reason.INVALID_SPEC,
        is_at_rest=True,
        generation=generation,
        message=message,
        now=now,
    )
    update = {
        "observed_generation": generation,
        "completion_time": status.completion_time or now,
    }
    return rejected.model_copy(update=update)


def report_forbidden(
    status: FineTuneJobStatus | None, *, generation: int, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status of a job whose next step the API server refuses: it stands still, and says why."""
    # NB: the observed generation stays: the spec of this one has not been acted on.
    return _with_reason(
        status or FineTuneJobStatus(),
        Reason.FORBIDDEN,
        is_at_rest=False,
        generation=generation,
        message=message,
        now=now,
    )


def is_forbidden(status: FineTuneJobStatus | None) -> bool:
    """Whether the status says that the API server refused the next step."""
    conditions = status.conditions if status else ()
    return any(condition.reason == Reason.FORBIDDEN for condition in conditions)


def is_rejected(status: FineTuneJobStatus) -> bool:
    """Whether the job failed because it could not be read, and not by the verdict of a stage."""
    # A stage that found the spec invalid gives the same reason, and that verdict stays.
    if any(stage.state == "Failed" for stage in status.stages):
        return False
    return any(
        condition.type == ConditionType.FAILED
        and condition.status == "True"
        and condition.reason == Reason.INVALID_SPEC
        for condition in status.conditions
    )


def lift_rejection(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status to go on from, now that the job can be read."""
    return status.model_copy(update={"phase": Phase.PENDING, "completion_time": None})


def _with_reason(
    status: FineTuneJobStatus,
    reason: Reason,
    *,
    is_at_rest: bool,
    generation: int,
    message: str,
    now: datetime,
) -> FineTuneJobStatus:
    """The status with the conditions of the job in its phase; those of its stages stay."""
    conditions = {condition.type: condition for condition in status.conditions}
    new = job_conditions(
        status.phase, is_at_rest=is_at_rest, reason=reason, message=message, now=now
    )
    merged = merge_conditions(new, before=status.conditions, generation=generation)
    conditions |= {condition.type: condition for condition in merged}
    return status.model_copy(update={"conditions": list(conditions.values())})
