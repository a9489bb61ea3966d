"""`advance`: one step of a job, pure and total. Both executors call it, and nothing else decides.

It is level-triggered: it decides from what is stored and what is seen, never from what has just
happened, so an event that is lost or comes twice changes nothing. An executor calls it whenever
something may have changed and at `wake_at`. It stores the decision's status first and carries out
the actions then. Killed in between, it decides the same again from the next observations: a start
that is stored and not carried out is asked for again. The other way round, what was started without
a note of it could be started a second time beside itself.
"""

from datetime import datetime

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.lifecycle.deadlines import after_finish
from tunesmith_engine.lifecycle.job_retry import handle_request, take_up, wants_retry
from tunesmith_engine.lifecycle.next_status import next_status
from tunesmith_engine.lifecycle.observations import Decision, Observations
from tunesmith_engine.lifecycle.rejections import is_rejected, lift_rejection
from tunesmith_engine.lifecycle.run_state import Context, RunState
from tunesmith_engine.lifecycle.runs import is_same_run, new_run
from tunesmith_engine.lifecycle.stage_states import observe
from tunesmith_engine.lifecycle.transitions import next_transition, stop_actions
from tunesmith_engine.planning.plan import Plan


def advance(
    plan: Plan, status: FineTuneJobStatus | None, seen: Observations, *, now: datetime
) -> Decision:
    """The next status of the job, what to do now, and when to look again at the latest.

    `status` is the last one stored, None for a job never seen. A status of other keys begins a new
    run; a finished one stays as it is until generation or keys change, a failed one until somebody
    asks for a retry. `now` has a time zone.
    """
    status = status or FineTuneJobStatus()
    if wants_retry(plan, status):
        status = take_up(plan, status)
    elif not is_same_run(plan, status):
        status = new_run(plan, status)
    status = handle_request(plan, status)
    state = RunState.of(plan, status)
    if is_rejected(status):
        status = lift_rejection(status)
    if status.is_finished:
        return after_finish(plan, status, stop_actions(state, seen), now=now)
    # Time in suspension counts towards no deadline: a job that is resumed starts its clock anew.
    active_since = now if status.phase == Phase.SUSPENDED else status.start_time or now
    context = Context(plan=plan, seen=seen, now=now, active_since=active_since)
    transition = next_transition(context, observe(context, state))
    return Decision(
        status=next_status(context, transition, before=status),
        actions=transition.actions,
        wake_at=transition.wake_at,
    )
