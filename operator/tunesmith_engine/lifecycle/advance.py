"""`advance`: one step in the life of a job, pure and total.

An executor calls it whenever something may have changed and at `wake_at`. It stores the decision's
status first and carries out the actions then: whatever is lost in between is decided again, the
same, from the next observations.
"""

from datetime import datetime

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.lifecycle.deadlines import active_deadline, finished
from tunesmith_engine.lifecycle.ledger import open_ledger
from tunesmith_engine.lifecycle.next_status import compose
from tunesmith_engine.lifecycle.observations import Decision, Observations
from tunesmith_engine.lifecycle.rejections import is_refused, taken_back
from tunesmith_engine.lifecycle.runs import continues, new_life
from tunesmith_engine.lifecycle.stage_states import observe
from tunesmith_engine.lifecycle.transitions import Moment, choose, stops
from tunesmith_engine.planning.plan import Plan


def advance(
    plan: Plan, status: FineTuneJobStatus | None, seen: Observations, *, now: datetime
) -> Decision:
    """The next status of the job, what to do now, and when to look again at the latest.

    `status` is the last one stored, None for a job never seen. A status of other keys begins a new
    life; a finished one stays as it is until generation or keys change. `now` has a time zone.
    """
    status = status or FineTuneJobStatus()
    if not continues(plan, status):
        status = new_life(plan, status)
    ledger = open_ledger(plan, status)
    if is_refused(status):
        status = taken_back(status)
    if status.is_finished:
        return finished(plan, status, stops(ledger, seen), now=now)
    going_since = _going_since(status, now=now)
    ledger = observe(plan, ledger, seen, now=now)
    deadline = active_deadline(plan, ledger, seen, going_since=going_since)
    moment = Moment(plan=plan, ledger=ledger, seen=seen, now=now, deadline=deadline)
    course = choose(moment)
    return Decision(
        status=compose(moment, course, before=status, going_since=going_since),
        actions=course.actions,
        wake_at=course.wake_at,
    )


def _going_since(status: FineTuneJobStatus, *, now: datetime) -> datetime:
    """When the job began or went on last: time in suspension counts towards no deadline."""
    if status.start_time is None or status.phase == Phase.SUSPENDED:
        return now
    return status.start_time
