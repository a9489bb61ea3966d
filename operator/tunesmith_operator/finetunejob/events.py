"""One Event for each change of a job's phase: what `kubectl describe ftj` shows as its history."""

from datetime import datetime

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.events import event_about
from tunesmith_operator.kube.objects import Manifest


def event_of(
    job: Manifest,
    before: FineTuneJobStatus | None,
    after: FineTuneJobStatus,
    *,
    now: datetime,
) -> Manifest | None:
    """The Event of the change from `before` to `after`; None if the phase is the same."""
    if before is not None and before.phase == after.phase:
        return None
    # The phase as a reason; of a job that failed, the reason for that.
    ready = next(
        condition for condition in after.conditions if condition.type == ConditionType.READY
    )
    has_failed = after.phase == Phase.FAILED
    return event_about(
        job,
        FINE_TUNE_JOB,
        phase=after.phase,
        reason=ready.reason if has_failed else str(after.phase),
        message=ready.message,
        is_warning=has_failed,
        now=now,
    )
