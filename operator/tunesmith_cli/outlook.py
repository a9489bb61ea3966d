"""How a job stands, in words: why, and what to do about it.

The same for the end of `run`, for `status` and for the report.
"""

from dataclasses import dataclass

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_cli.remedies import remedy_for


@dataclass(frozen=True, slots=True)
class Outlook:
    """The reason of the job's state, its message, and the remedy; each may be empty."""

    reason: str = ""
    message: str = ""
    remedy: str = ""


def outlook_of(status: FineTuneJobStatus) -> Outlook:
    """Why the job is in its phase, from the condition that says so."""
    wanted = ConditionType.FAILED if status.phase == Phase.FAILED else ConditionType.READY
    for condition in status.conditions:
        if condition.type == wanted:
            return Outlook(
                reason=condition.reason,
                message=condition.message,
                remedy=remedy_for(condition.reason),
            )
    return Outlook()
