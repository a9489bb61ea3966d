"""First half of `advance`: what the observations say about every stage, written into the state.

From an observed attempt to the stage's status there is one hop each: a finished result makes the
stage Succeeded, a running attempt Running or Waiting, and one that has ended Pending or Failed, as
`retry_policy.py` judges.
"""

from dataclasses import replace

from tunesmith_api.finetunejob.status import Attempt, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.lifecycle.deadlines import pre_running_deadline, pre_running_message
from tunesmith_engine.lifecycle.observations import Observations, ObservedAttempt, Waiting
from tunesmith_engine.lifecycle.retry_policy import (
    is_disrupted,
    job_failure,
    judge_termination,
    result_of_attempt,
)
from tunesmith_engine.lifecycle.run_state import Context, RunState, is_stopping
from tunesmith_engine.planning.plan import PlannedStage
from tunesmith_engine.stages.contracts import StageResult


def observe(context: Context, state: RunState) -> RunState:
    """The state after results, ends and running attempts have been taken note of."""
    # NB: in the order of the plan. Whether it is a stage's turn depends on the stages before it as
    # this very pass has left them.
    for planned in context.plan.stages:
        stage = state.stage(planned.name)
        attempt = context.seen.latest_attempt(stage)
        if attempt is not None:
            # First of all, since what follows may close the attempt.
            state = state.count_time(stage, attempt, now=context.now)
        result = finished_result(planned, context.seen)
        if result is not None:
            state = _succeed(context, state, stage, result)
        else:
            state = _observe_unfinished(context, state, stage, attempt)
    return state


def finished_result(planned: PlannedStage, seen: Observations) -> StageResult | None:
    """The finished result of the stage, unless it is another stage's, key's or a failure."""
    result = seen.finished.get(planned.key)
    if result is None or (result.stage, result.key) != (planned.name, planned.key):
        return None
    return result if result.outcome == "Succeeded" else None


def _succeed(
    context: Context, state: RunState, stage: StageStatus, result: StageResult
) -> RunState:
    if stage.state == "Succeeded":
        return state
    attempt = (stage.name, result.attempt)
    ran_here = attempt in {(known.stage, known.number) for known in state.attempts}
    reason = Reason.SUCCEEDED if ran_here else Reason.CACHED
    state = state.end_attempt(
        stage, now=context.now, reason=reason, resumed_from_step=result.resumed_from_step
    )
    return state.update_stage(
        stage,
        state="Succeeded",
        cached=not ran_here,
        seconds=result.seconds,
        attempt=max(stage.attempt, result.attempt),
        reason=reason,
        message=truncate_message(result.message),
        result_digest=result.digest,
    )


def _observe_unfinished(
    context: Context, state: RunState, stage: StageStatus, attempt: ObservedAttempt | None
) -> RunState:
    """A stage without a result that counts: what its latest attempt does, or how it ended."""
    if stage.state == "Succeeded":
        # Its artifacts are gone since, so it has to run again.
        state = state.update_stage(
            stage,
            state="Pending",
            cached=False,
            reason=Reason.PENDING,
            message="",
            result_digest=None,
        )
    if attempt is not None and attempt.attempt > stage.attempt:
        state = _adopt(context, state, attempt)
    stage = state.stage(stage.name)
    if not stage.is_under_way:
        return state
    known = attempt if attempt and attempt.attempt == stage.attempt else None
    if known is not None and known.is_running:
        return _observe_running(context, state, stage, known)
    if known is not None or is_stopping(stage):
        return _end(context, state, stage, known)
    if state.is_current(stage):
        # Nobody sees the attempt yet: its start may have been lost, or its child be on its way
        # into the watch. `transitions.py` asks for the same start again, which does no harm.
        return state
    # A start that nobody saw is forgotten if the stage it builds on has to be run again.
    state = state.end_attempt(stage, now=context.now, reason=Reason.INTERRUPTED)
    return state.update_stage(stage, state="Pending", reason=Reason.PENDING, message="")


def _adopt(context: Context, state: RunState, attempt: ObservedAttempt) -> RunState:
    """Take over an attempt whose start was carried out, and never came to be stored.

    One that has ended while the stage was not thought to run belongs to an earlier run.
    """
    stage = state.stage(attempt.stage)
    if not state.is_current(stage) or not (attempt.is_running or stage.is_under_way):
        return state
    row = context.plan.stage(stage.name).stage
    state = state.start_attempt(
        stage,
        number=attempt.attempt,
        accelerators=row.num_accelerators(context.plan.spec),
        now=context.now,
    )
    return state.count_time(stage, attempt, now=context.now)


def _observe_running(
    context: Context, state: RunState, stage: StageStatus, attempt: ObservedAttempt
) -> RunState:
    if is_stopping(stage):
        return state
    if not state.is_current(stage):
        # The stage it builds on has to be run again: `transitions.py` stops it by this reason.
        return state.update_stage(stage, reason=Reason.INTERRUPTED)
    waiting = attempt.waiting
    if waiting is None:
        return state.mark_running(stage)
    message = _timeout_message(context, state.open_attempt(stage), waiting)
    if message is not None:
        return state.give_up(stage, now=context.now, reason=waiting.reason, message=message)
    if context.now < waiting.reported_at:
        return state.mark_running(stage)
    return state.mark_waiting(stage, reason=waiting.reason, message=waiting.message)


def _timeout_message(context: Context, attempt: Attempt | None, waiting: Waiting) -> str | None:
    """What the job says if it fails since this wait has lasted too long; None if it has not."""
    overdue_at = pre_running_deadline(context.plan, attempt)
    # A pod that is taken off its node ends soon, and must not fail the job by a short limit while
    # it is still being stopped.
    if overdue_at is not None and context.now >= overdue_at and not is_disrupted(waiting):
        return pre_running_message(context.plan, waiting)
    times_out_at = waiting.times_out_at
    if times_out_at is None or context.now < max(times_out_at, waiting.reported_at):
        return None
    return waiting.message


def _end(
    context: Context, state: RunState, stage: StageStatus, attempt: ObservedAttempt | None
) -> RunState:
    """The attempt is over: the stage waits for its next one, or the job has failed."""
    termination = judge_termination(stage, attempt, previous=state.last_ended_attempt(stage))
    result = result_of_attempt(attempt)
    state = state.end_attempt(
        stage,
        now=context.now,
        reason=termination.reason,
        message=termination.message,
        resumed_from_step=result.resumed_from_step if result else None,
    )
    failures = stage.failures + (1 if termination.action == "Count" else 0)
    failure = job_failure(
        stage,
        termination,
        result,
        failures=failures,
        backoff_limit=context.plan.spec.backoff_limit,
    )
    state = state.update_stage(
        stage,
        state="Failed" if failure else "Pending",
        failures=failures,
        reason=termination.reason,
        message=truncate_message(termination.message),
        seconds=result.seconds if result else stage.seconds,
    )
    return replace(state, failure=failure or state.failure)
