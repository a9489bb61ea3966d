"""Second half of `advance`: what to do next, given a state that is up to date.

The first of these that applies: the job has failed; it is done; it is stopped by a person or its
deadline; something runs; a retry waits for its time; the next attempt starts.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from tunesmith_api.finetunejob.status import Phase, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.lifecycle.deadlines import (
    active_deadline,
    is_in_queue,
    pre_running_deadline,
)
from tunesmith_engine.lifecycle.observations import Action, Observations, Start, Stop
from tunesmith_engine.lifecycle.retry_policy import backoff_until
from tunesmith_engine.lifecycle.run_state import (
    STOP_CAUSES,
    Context,
    JobFailure,
    RunState,
    is_stopping,
    is_waiting,
)


@dataclass(frozen=True, slots=True)
class Transition:
    """What is done now, why, and the state in which that is written down."""

    state: RunState
    phase: str
    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None


def next_transition(context: Context, state: RunState) -> Transition:
    """The one transition that applies."""
    stage = state.current
    if state.failure is not None:
        return _fail(context, state, state.failure)
    if stage is None:
        return _complete(context, state)
    deadline = active_deadline(context, state)
    stop = _stop_reason(context, deadline)
    if stop is not None:
        return _stop(context, state, stage, stop)
    # NB: also if what runs is none of ours any more. Two attempts of a job never run at once: the
    # next one starts when the last process of the one before is seen to be gone.
    if stage.is_under_way or context.seen.running_attempts():
        transition = _continue(context, state, stage)
    elif (retry_at := backoff_until(state, stage, now=context.now)) is not None:
        message = f"{stage.name} is tried again after {stage.reason}: {stage.message}"
        transition = _proceed(context, state, stage, message, wake_at=retry_at)
    else:
        transition = _start(context, state, stage)
    times = [time for time in (transition.wake_at, deadline) if time is not None]
    return replace(transition, wake_at=min(times, default=None))


def stop_actions(state: RunState, seen: Observations) -> tuple[Action, ...]:
    """Stops for what was told to stop, and for every attempt that the state knows nothing of."""
    # Level-triggered: as long as it is seen to run it is told again. A stop that was lost with
    # its executor needs no memory, and one that is repeated does no harm.
    under_way = {
        (stage.name, stage.key, stage.attempt): stage
        for stage in state.stages
        if stage.is_under_way
    }
    actions: list[Action] = []
    for attempt in seen.running_attempts():
        stage = under_way.get((attempt.stage, attempt.key, attempt.attempt))
        if stage is None:
            actions.append(Stop(attempt.stage, attempt.key, attempt.attempt, "Superseded"))
        elif is_stopping(stage):
            because = STOP_CAUSES[stage.reason]
            actions.append(Stop(attempt.stage, attempt.key, attempt.attempt, because))
    return tuple(actions)


def _fail(context: Context, state: RunState, failure: JobFailure) -> Transition:
    return Transition(
        state=state,
        phase=Phase.FAILED,
        reason=failure.reason,
        message=failure.message,
        actions=stop_actions(state, context.seen),
    )


def _complete(context: Context, state: RunState) -> Transition:
    last, is_whole = state.stages[-1], context.plan.is_whole
    message = f"every stage up to {last.name} is done, and no more was asked for"
    return Transition(
        state=state,
        phase=Phase.SUCCEEDED if is_whole else Phase.SUSPENDED,
        reason=Reason.SUCCEEDED if is_whole else Reason.STOPPED_AS_ASKED,
        message=last.message if is_whole else message,
        actions=stop_actions(state, context.seen),
    )


def _stop_reason(context: Context, deadline: datetime | None) -> Reason | None:
    if context.seen.stop_requested:
        return Reason.INTERRUPTED
    if context.plan.spec.suspend:
        return Reason.SUSPENDED
    if deadline is not None and context.now >= deadline:
        return Reason.DEADLINE_EXCEEDED
    return None


def _stop(context: Context, state: RunState, stage: StageStatus, reason: Reason) -> Transition:
    is_over_time = reason is Reason.DEADLINE_EXCEEDED
    seconds = context.plan.spec.active_deadline_seconds
    if is_over_time and is_waiting(stage):
        # With the reason for waiting: that is what a person has to mend.
        message = truncate_message(f"activeDeadlineSeconds: {seconds} is over; {stage.message}")
        state = state.give_up(stage, now=context.now, reason=Reason(stage.reason), message=message)
        return _fail(context, state, JobFailure(reason=stage.reason, message=message))
    state = _mark_stopping(context, state, reason)
    is_stopped = not context.seen.running_attempts()
    if is_over_time and is_stopped:
        # NB: Failed is final, so it comes only after the last process: until then the attempt may
        # still write a checkpoint, or its result.
        message = f"not done within activeDeadlineSeconds: {seconds}; {stage.name} was not finished"
        state = state.update_stage(stage, state="Failed", reason=reason, message=message)
        return Transition(state=state, phase=Phase.FAILED, reason=reason, message=message)
    return Transition(
        state=state,
        phase=context.plan.stage(stage.name).stage.phase if is_over_time else Phase.SUSPENDED,
        reason=reason,
        message=f"{stage.name} {'can go on' if is_stopped else 'is being stopped'}",
        actions=stop_actions(state, context.seen),
    )


def _mark_stopping(context: Context, state: RunState, reason: Reason) -> RunState:
    """Tell every attempt to stop; one that nobody sees has ended."""
    for stage in state.stages:
        if not stage.is_under_way:
            continue
        attempt = context.seen.latest_attempt(stage)
        if attempt is None or attempt.attempt != stage.attempt:
            state = state.end_attempt(stage, now=context.now, reason=reason)
            state = state.update_stage(stage, state="Pending", reason=reason)
        elif not is_stopping(stage):
            state = state.update_stage(stage, reason=reason)
    return state


def _continue(context: Context, state: RunState, stage: StageStatus) -> Transition:
    """An attempt runs, waits or is being stopped: at most the same start or stop once more."""
    actions = stop_actions(state, context.seen)
    if stage.is_under_way and not context.seen.running_attempts():
        # Stored as started and seen nowhere: the start was lost between the two, or is not seen
        # yet. Starting an attempt twice is the same as once.
        actions = (Start(stage.name, stage.key, stage.attempt),)
    if is_waiting(stage):
        message = stage.message
    elif stage.is_under_way and not is_stopping(stage):
        message = f"{stage.name}: attempt {stage.attempt} is running"
    else:
        message = f"{stage.name} waits for an earlier attempt to end"
    transition = _proceed(
        context, state, stage, message, actions=actions, wake_at=_next_check(context, state, stage)
    )
    if not is_waiting(stage):
        return transition
    phase = Phase.QUEUED if is_in_queue(state, context.seen) else transition.phase
    return replace(transition, reason=stage.reason, phase=phase)


def _next_check(context: Context, state: RunState, stage: StageStatus) -> datetime | None:
    """When a wait is first named, has lasted too long, or is to be looked at again."""
    attempt = context.seen.latest_attempt(stage)
    waiting = attempt.waiting if attempt else None
    if waiting is None:
        return None
    times = (
        waiting.reported_at,
        waiting.times_out_at,
        waiting.recheck_at(context.now),
        pre_running_deadline(context.plan, state.open_attempt(stage)),
    )
    # A time that has come has had its effect in this very step; it must not wake at once again.
    return min((time for time in times if time is not None and time > context.now), default=None)


def _start(context: Context, state: RunState, stage: StageStatus) -> Transition:
    # NB: past every number that was seen, and not only past those in the status: the status may
    # have been emptied, and an attempt's folder, or its Job's name, is never used twice.
    observed = context.seen.latest_attempt(stage)
    number = max(stage.attempt, observed.attempt if observed else 0) + 1
    row = context.plan.stage(stage.name).stage
    state = state.start_attempt(
        stage,
        number=number,
        accelerators=row.num_accelerators(context.plan.spec),
        now=context.now,
    )
    return _proceed(
        context,
        state,
        stage,
        f"{stage.name}: attempt {number} is running",
        actions=(Start(stage.name, stage.key, number),),
    )


def _proceed(
    context: Context,
    state: RunState,
    stage: StageStatus,
    message: str,
    *,
    actions: tuple[Action, ...] = (),
    wake_at: datetime | None = None,
) -> Transition:
    return Transition(
        state=state,
        phase=context.plan.stage(stage.name).stage.phase,
        reason=Reason.RUNNING,
        message=message,
        actions=actions,
        wake_at=wake_at,
    )
