"""Second half of `advance`: what to do, given a ledger that is up to date.

The first of these that applies: the job has failed; it is done; it is held back by a person or the
deadline; something runs; a retry waits for its time; the next attempt starts.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from tunesmith_api.finetunejob.status import Phase, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.deadlines import pre_running_deadline
from tunesmith_engine.lifecycle.ledger import STOP_MARKS, Ledger, is_told_to_stop, is_waiting
from tunesmith_engine.lifecycle.observations import Action, AttemptSeen, Observations, Start, Stop
from tunesmith_engine.lifecycle.retry_policy import retry_at
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class Course:
    """What is done now, why, and the ledger in which that is written down."""

    ledger: Ledger
    phase: str
    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What a course is chosen from; `deadline` is None where the job has none."""

    plan: Plan
    ledger: Ledger
    seen: Observations
    now: datetime
    deadline: datetime | None


def choose(moment: Moment) -> Course:
    """The one course that fits the moment."""
    ledger, stage = moment.ledger, moment.ledger.current
    if ledger.failure is not None:
        return _failed(moment, ledger.failure.reason, ledger.failure.message)
    if stage is None:
        return _done(moment)
    hold = _hold(moment)
    if hold is not None:
        return _held(moment, stage, hold)
    if stage.is_under_way or running(moment.seen):
        return _busy(moment, stage)
    wait_until = retry_at(ledger, stage, now=moment.now)
    if wait_until is not None:
        return _waiting(moment, stage, wait_until)
    return _started(moment, stage)


def running(seen: Observations) -> tuple[AttemptSeen, ...]:
    """The attempts that run, wanted or not."""
    return tuple(each for each in seen.attempts if each.is_running)


def stops(ledger: Ledger, seen: Observations) -> tuple[Action, ...]:
    """Stops for what was told to stop, and for every attempt that the ledger knows nothing of."""
    known = {
        (stage.name, stage.key, stage.attempt): stage
        for stage in ledger.stages
        if stage.is_under_way
    }
    actions: list[Action] = []
    for each in running(seen):
        stage = known.get((each.stage, each.key, each.attempt))
        if stage is None:
            actions.append(Stop(each.stage, each.key, each.attempt, "Superseded"))
        elif is_told_to_stop(stage):
            because = STOP_MARKS[stage.reason]
            actions.append(Stop(each.stage, each.key, each.attempt, because))
    return tuple(actions)


def _failed(moment: Moment, reason: str, message: str) -> Course:
    return Course(
        ledger=moment.ledger,
        phase=Phase.FAILED,
        reason=reason,
        message=message,
        actions=stops(moment.ledger, moment.seen),
    )


def _done(moment: Moment) -> Course:
    last, is_whole = moment.ledger.stages[-1], moment.plan.is_whole
    message = f"every stage up to {last.name} is done, and no more was asked for"
    return Course(
        ledger=moment.ledger,
        phase=Phase.SUCCEEDED if is_whole else Phase.SUSPENDED,
        reason=Reason.SUCCEEDED if is_whole else Reason.STOPPED_AS_ASKED,
        message=last.message if is_whole else message,
        actions=stops(moment.ledger, moment.seen),
    )


def _hold(moment: Moment) -> Reason | None:
    if moment.seen.stop_asked:
        return Reason.INTERRUPTED
    if moment.plan.spec.suspend:
        return Reason.SUSPENDED
    if moment.deadline is not None and moment.now >= moment.deadline:
        return Reason.DEADLINE_EXCEEDED
    return None


def _held(moment: Moment, stage: StageStatus, hold: Reason) -> Course:
    if hold is Reason.DEADLINE_EXCEEDED and is_waiting(stage):
        return _given_up(moment, stage)
    ledger = _told_to_stop(moment, hold)
    is_over = not running(moment.seen)
    if hold is Reason.DEADLINE_EXCEEDED and is_over:
        return _overdue(moment, ledger, stage)
    message = f"{stage.name} can go on" if is_over else f"{stage.name} is being stopped"
    return Course(
        ledger=ledger,
        phase=_phase_of(moment, stage) if hold is Reason.DEADLINE_EXCEEDED else Phase.SUSPENDED,
        reason=hold,
        message=message,
        actions=stops(ledger, moment.seen),
    )


def _told_to_stop(moment: Moment, hold: Reason) -> Ledger:
    """The ledger after every attempt was called off; one that nobody sees has ended."""
    ledger = moment.ledger
    for stage in moment.ledger.stages:
        if not stage.is_under_way:
            continue
        attempt = moment.seen.attempt_of(stage)
        if attempt is None or attempt.attempt != stage.attempt:
            ledger = ledger.ended(stage, now=moment.now, reason=hold)
            ledger = ledger.changed(stage, state="Pending", reason=hold)
        elif not is_told_to_stop(stage):
            ledger = ledger.changed(stage, reason=hold)
    return ledger


def _overdue(moment: Moment, ledger: Ledger, stage: StageStatus) -> Course:
    seconds = moment.plan.spec.active_deadline_seconds
    message = f"not done within activeDeadlineSeconds: {seconds}; {stage.name} was not finished"
    return Course(
        ledger=ledger.changed(
            stage, state="Failed", reason=Reason.DEADLINE_EXCEEDED, message=message
        ),
        phase=Phase.FAILED,
        reason=Reason.DEADLINE_EXCEEDED,
        message=message,
    )


def _given_up(moment: Moment, stage: StageStatus) -> Course:
    """The deadline ends a wait with the reason for waiting: that is what a person has to mend."""
    seconds = moment.plan.spec.active_deadline_seconds
    message = clipped(f"activeDeadlineSeconds: {seconds} is over; {stage.message}")
    ledger = moment.ledger.given_up(
        stage, now=moment.now, reason=Reason(stage.reason), message=message
    )
    return _failed(replace(moment, ledger=ledger), stage.reason, message)


def _busy(moment: Moment, stage: StageStatus) -> Course:
    actions = stops(moment.ledger, moment.seen)
    if stage.is_under_way and not running(moment.seen):
        actions = (Start(stage.name, stage.key, stage.attempt),)
    is_current = stage.is_under_way and not is_told_to_stop(stage)
    message = (
        f"{stage.name}: attempt {stage.attempt} is running"
        if is_current
        else f"{stage.name} waits for an earlier attempt to end"
    )
    if is_waiting(stage):
        message = stage.message
    course = _going_on(
        moment, stage, message=message, actions=actions, wake_at=_next_turn(moment, stage)
    )
    if not is_waiting(stage):
        return course
    phase = Phase.QUEUED if _is_in_queue(moment, stage) else course.phase
    return replace(course, reason=stage.reason, phase=phase)


def _phase_of(moment: Moment, stage: StageStatus) -> str:
    return moment.plan.stage(stage.name).stage.phase


def _is_in_queue(moment: Moment, stage: StageStatus) -> bool:
    attempt = moment.seen.attempt_of(stage)
    return attempt is not None and attempt.waiting is not None and attempt.waiting.in_queue


def _next_turn(moment: Moment, stage: StageStatus) -> datetime | None:
    """When a wait is first told, when it has lasted too long, and when to ask about it again."""
    attempt = moment.seen.attempt_of(stage)
    waiting = attempt.waiting if attempt else None
    if waiting is None:
        return None
    overdue_at = pre_running_deadline(moment.plan, moment.ledger.open_attempt(stage))
    times = (waiting.told_at, waiting.hopeless_at, waiting.again_at(moment.now), overdue_at)
    return min((each for each in times if each is not None and each > moment.now), default=None)


def _waiting(moment: Moment, stage: StageStatus, wait_until: datetime) -> Course:
    message = f"{stage.name} is tried again after {stage.reason}: {stage.message}"
    return _going_on(moment, stage, message=message, wake_at=wait_until)


def _started(moment: Moment, stage: StageStatus) -> Course:
    seen = moment.seen.attempt_of(stage)
    attempt = max(stage.attempt, seen.attempt if seen else 0) + 1
    row = moment.plan.stage(stage.name).stage
    ledger = moment.ledger.started(
        stage,
        attempt=attempt,
        accelerators=row.num_accelerators(moment.plan.spec.resources),
        now=moment.now,
    )
    return _going_on(
        replace(moment, ledger=ledger),
        stage,
        message=f"{stage.name}: attempt {attempt} is running",
        actions=(Start(stage.name, stage.key, attempt),),
    )


def _going_on(
    moment: Moment,
    stage: StageStatus,
    *,
    message: str,
    actions: tuple[Action, ...] = (),
    wake_at: datetime | None = None,
) -> Course:
    times = [each for each in (wake_at, moment.deadline) if each is not None]
    return Course(
        ledger=moment.ledger,
        phase=_phase_of(moment, stage),
        reason=Reason.RUNNING,
        message=message,
        actions=actions,
        wake_at=min(times, default=None),
    )
