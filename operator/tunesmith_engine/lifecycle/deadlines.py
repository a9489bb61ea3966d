"""The limits of time that a job sets: on its work, on each wait before work, and on its rest.

`stage_states.py` and `transitions.py` ask here whether a time has come, and act on it themselves;
`advance.py` takes from here what is left to do for a job that is over.
"""

from datetime import datetime, timedelta

from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.lifecycle.accounting import queue_held_since
from tunesmith_engine.lifecycle.observations import Action, Decision, Observations, Waiting
from tunesmith_engine.lifecycle.run_state import Context, RunState
from tunesmith_engine.planning.plan import Plan


def active_deadline(context: Context, state: RunState) -> datetime | None:
    """When `activeDeadlineSeconds` are over; None if there is no such limit, or not now.

    Time in a queue of Kueue does not count, since the job has no power over it: the deadline moves
    on by what was held, and there is none while the job is queued. Neither does time in
    suspension: it counts from when the job was last resumed.
    """
    seconds = context.plan.spec.active_deadline_seconds
    if seconds is None or is_in_queue(state, context.seen):
        return None
    held = queue_held_since(state.attempts, context.active_since)
    return context.active_since + timedelta(seconds=seconds) + held


def pre_running_deadline(plan: Plan, attempt: Attempt | None) -> datetime | None:
    """When an attempt has waited for too long; None if it does not wait, or may do so."""
    seconds = plan.spec.pre_running_deadline_seconds
    if seconds is None or attempt is None or attempt.waiting_since is None:
        return None
    return attempt.waiting_since + timedelta(seconds=seconds)


def pre_running_message(plan: Plan, waiting: Waiting) -> str:
    """What the attempt waited for when that limit was over."""
    seconds = plan.spec.pre_running_deadline_seconds
    return truncate_message(f"preRunningDeadlineSeconds: {seconds} is over; {waiting.message}")


def is_in_queue(state: RunState, seen: Observations) -> bool:
    """Whether the current attempt waits in a queue of Kueue."""
    attempt = seen.latest_attempt(state.current) if state.current else None
    return attempt is not None and attempt.waiting is not None and attempt.waiting.in_queue


def after_finish(
    plan: Plan, status: FineTuneJobStatus, actions: tuple[Action, ...], *, now: datetime
) -> Decision:
    """What is still to do for a job that is over: `actions`, and then `ttlSecondsAfterFinished`."""
    seconds = plan.spec.ttl_seconds_after_finished
    if seconds is None or status.completion_time is None:
        return Decision(status=status, actions=actions)
    expires_at = status.completion_time + timedelta(seconds=seconds)
    if now < expires_at:
        return Decision(status=status, actions=actions, wake_at=expires_at)
    # NB: only once nothing of it runs, since nobody would be left to stop what does.
    return Decision(status=status, actions=actions, is_expired=not actions)
