"""The limits of time that a job sets: on its work, on each wait before work, and on its rest.

`advance` and its halves ask here; nothing is decided here but whether a time has come.
"""

from datetime import datetime, timedelta

from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus
from tunesmith_engine.lifecycle.accounting import held_since
from tunesmith_engine.lifecycle.ledger import Ledger
from tunesmith_engine.lifecycle.observations import Action, Decision, Observations, Waiting
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.planning.plan import Plan


def active_deadline(
    plan: Plan, ledger: Ledger, seen: Observations, *, going_since: datetime
) -> datetime | None:
    """When the job is over time; time that a queue held it back does not count."""
    seconds = plan.spec.active_deadline_seconds
    if seconds is None or _is_in_queue(ledger, seen):
        return None
    return going_since + timedelta(seconds=seconds) + held_since(ledger.attempts, going_since)


def pre_running_deadline(plan: Plan, attempt: Attempt | None) -> datetime | None:
    """When an attempt has waited for too long; None if it does not wait, or may do so."""
    seconds = plan.spec.pre_running_deadline_seconds
    if seconds is None or attempt is None or attempt.waiting_since is None:
        return None
    return attempt.waiting_since + timedelta(seconds=seconds)


def is_overdue(plan: Plan, attempt: Attempt | None, *, now: datetime) -> bool:
    """Whether an attempt has waited for too long."""
    deadline = pre_running_deadline(plan, attempt)
    return deadline is not None and now >= deadline


def overdue_message(plan: Plan, waiting: Waiting) -> str:
    """What the attempt waited for when its time was over."""
    seconds = plan.spec.pre_running_deadline_seconds
    return clipped(f"preRunningDeadlineSeconds: {seconds} is over; {waiting.message}")


def finished(
    plan: Plan, status: FineTuneJobStatus, actions: tuple[Action, ...], *, now: datetime
) -> Decision:
    """What is still to do for a job that is over: nothing but to forget it, if it is to be."""
    seconds = plan.spec.ttl_seconds_after_finished
    if seconds is None or status.completion_time is None:
        return Decision(status=status, actions=actions)
    expires_at = status.completion_time + timedelta(seconds=seconds)
    is_expired = now >= expires_at and not actions
    wake_at = None if now >= expires_at else expires_at
    return Decision(status=status, actions=actions, wake_at=wake_at, is_expired=is_expired)


def _is_in_queue(ledger: Ledger, seen: Observations) -> bool:
    attempt = seen.attempt_of(ledger.current) if ledger.current else None
    return attempt is not None and attempt.waiting is not None and attempt.waiting.in_queue
