"""First half of `advance`: what the observations say about every stage, written into the ledger."""

from dataclasses import replace
from datetime import datetime

from tunesmith_api.finetunejob.status import StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.deadlines import is_overdue, overdue_message
from tunesmith_engine.lifecycle.ledger import Failure, Ledger, is_told_to_stop
from tunesmith_engine.lifecycle.observations import AttemptSeen, Observations
from tunesmith_engine.lifecycle.retry_policy import (
    Ending,
    ending_of,
    is_taken_away,
    own_result,
    repeats,
)
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.contracts import StageResult


def observe(plan: Plan, ledger: Ledger, seen: Observations, *, now: datetime) -> Ledger:
    """The ledger after results, crashes and running attempts have been taken note of."""
    for planned in plan.stages:
        ledger = _counted(ledger, _stage(ledger, planned), seen, now=now)
        result = finished_result(planned, seen)
        ledger = (
            _done(ledger, _stage(ledger, planned), result, now=now)
            if result is not None
            else _not_done(plan, ledger, planned, seen, now=now)
        )
    return ledger


def finished_result(planned: PlannedStage, seen: Observations) -> StageResult | None:
    """The finished result of the stage, unless it is another stage's, key's or a failure."""
    result = seen.finished.get(planned.key)
    if result is None or (result.stage, result.key) != (planned.name, planned.key):
        return None
    return result if result.outcome == "Succeeded" else None


def _counted(ledger: Ledger, stage: StageStatus, seen: Observations, *, now: datetime) -> Ledger:
    attempt = seen.attempt_of(stage)
    return ledger if attempt is None else ledger.counted(stage, attempt, now=now)


def _stage(ledger: Ledger, planned: PlannedStage) -> StageStatus:
    return next(each for each in ledger.stages if each.name == planned.name)


def _done(ledger: Ledger, stage: StageStatus, result: StageResult, *, now: datetime) -> Ledger:
    if stage.state == "Succeeded":
        return ledger
    ran_here = any(
        (each.stage, each.number) == (stage.name, result.attempt) for each in ledger.attempts
    )
    reason = Reason.SUCCEEDED if ran_here else Reason.CACHED
    ledger = ledger.ended(stage, now=now, reason=reason, resumed_from_step=result.resumed_from_step)
    return ledger.changed(
        stage,
        state="Succeeded",
        cached=not ran_here,
        seconds=result.seconds,
        attempt=max(stage.attempt, result.attempt),
        reason=reason,
        message=clipped(result.message),
        result_digest=result.digest,
    )


def _not_done(
    plan: Plan, ledger: Ledger, planned: PlannedStage, seen: Observations, *, now: datetime
) -> Ledger:
    ledger = _forget_lost_success(ledger, _stage(ledger, planned))
    stage = _stage(ledger, planned)
    attempt = seen.attempt_of(stage)
    if attempt and attempt.attempt > stage.attempt:
        ledger = _found_later(plan, ledger, stage, attempt, now=now)
        stage = _stage(ledger, planned)
    if not stage.is_under_way:
        return ledger
    is_known = attempt is not None and attempt.attempt == stage.attempt
    if is_known and attempt is not None and attempt.is_running:
        return _still_running(plan, ledger, stage, attempt, now=now)
    if is_known or is_told_to_stop(stage):
        return _ended(plan, ledger, stage, attempt if is_known else None, now=now)
    return ledger if _is_current(ledger, stage) else _never_begun(ledger, stage, now=now)


def _forget_lost_success(ledger: Ledger, stage: StageStatus) -> Ledger:
    """A stage whose artifacts are gone has to be run again."""
    if stage.state != "Succeeded":
        return ledger
    return ledger.changed(
        stage,
        state="Pending",
        cached=False,
        reason=Reason.PENDING,
        message="",
        result_digest=None,
    )


def _found_later(
    plan: Plan, ledger: Ledger, stage: StageStatus, attempt: AttemptSeen, *, now: datetime
) -> Ledger:
    """Take over an attempt whose start never came to be written down.

    One that has ended while the stage was not thought to run belongs to an earlier life.
    """
    if not _is_current(ledger, stage) or not (attempt.is_running or stage.is_under_way):
        return ledger
    accelerators = plan.stage(stage.name).stage.num_accelerators(plan.spec.resources)
    ledger = ledger.started(stage, attempt=attempt.attempt, accelerators=accelerators, now=now)
    return ledger.counted(stage, attempt, now=now)


def _still_running(
    plan: Plan, ledger: Ledger, stage: StageStatus, attempt: AttemptSeen, *, now: datetime
) -> Ledger:
    if is_told_to_stop(stage) or not _is_current(ledger, stage):
        return _called_off_early(ledger, stage)
    waiting = attempt.waiting
    is_leaving = waiting is not None and is_taken_away(waiting)
    if waiting and not is_leaving and is_overdue(plan, ledger.open_attempt(stage), now=now):
        message = overdue_message(plan, waiting)
        return ledger.given_up(stage, now=now, reason=waiting.reason, message=message)
    if waiting is None or now < waiting.told_at:
        return ledger.going(stage, waits_for=None)
    if waiting.hopeless_at is not None and now >= waiting.hopeless_at:
        return ledger.given_up(stage, now=now, reason=waiting.reason, message=waiting.message)
    return ledger.going(stage, waits_for=waiting.reason, message=waiting.message)


def _called_off_early(ledger: Ledger, stage: StageStatus) -> Ledger:
    """An attempt is stopped if the stage it builds on has to be run again."""
    if is_told_to_stop(stage) or _is_current(ledger, stage):
        return ledger
    return ledger.changed(stage, reason=Reason.INTERRUPTED)


def _never_begun(ledger: Ledger, stage: StageStatus, *, now: datetime) -> Ledger:
    """A start that nobody saw is forgotten if the stage it builds on has to be run again."""
    ledger = ledger.ended(stage, now=now, reason=Reason.INTERRUPTED)
    return ledger.changed(stage, state="Pending", reason=Reason.PENDING, message="")


def _is_current(ledger: Ledger, stage: StageStatus) -> bool:
    return ledger.current is not None and ledger.current.name == stage.name


def _ended(
    plan: Plan, ledger: Ledger, stage: StageStatus, attempt: AttemptSeen | None, *, now: datetime
) -> Ledger:
    ending = ending_of(stage, attempt)
    if repeats(ending, ledger.last_ended(stage)):
        message = f"{stage.name} crashed twice alike: {ending.message}"
        ending = replace(ending, message=message, is_final=True)
    result = own_result(attempt)
    ledger = ledger.ended(
        stage,
        now=now,
        reason=ending.reason,
        message=ending.message,
        resumed_from_step=result.resumed_from_step if result else None,
    )
    failures = stage.failures + (1 if ending.counts and not ending.is_final else 0)
    failure = _failure(stage, ending, result, failures=failures, limit=plan.spec.backoff_limit)
    ledger = ledger.changed(
        stage,
        state="Failed" if failure else "Pending",
        failures=failures,
        reason=ending.reason,
        message=clipped(ending.message),
        seconds=result.seconds if result else stage.seconds,
    )
    return replace(ledger, failure=failure or ledger.failure)


def _failure(
    stage: StageStatus, ending: Ending, result: StageResult | None, *, failures: int, limit: int
) -> Failure | None:
    if ending.is_final:
        message = clipped(ending.message, ending=ending.where)
        return Failure(reason=ending.reason, message=message, result=result)
    if not ending.counts or failures <= limit:
        return None
    message = (
        f"{stage.name} failed {failures} times, at last with {ending.reason}: {ending.message}"
    )
    message = clipped(message, ending=ending.where)
    return Failure(reason=Reason.BACKOFF_LIMIT_EXCEEDED, message=message, result=result)
