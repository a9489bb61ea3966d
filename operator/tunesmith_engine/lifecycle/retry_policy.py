"""How an attempt that did not succeed is judged, and how long to wait before the next one.

As in the pod failure policy of a batch Job, each end of an attempt has one action. `FailJob`: bad
input and verdicts, which no retry mends, and a crash that repeats the one before it. `Ignore`: an
attempt that was stopped, preempted, or lost together with what it ran on. `Count`: every other
fault of the machine, up to `backoffLimit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from tunesmith_api.finetunejob.status import Attempt, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.lifecycle.conditions import truncate_reason
from tunesmith_engine.lifecycle.observations import ObservedAttempt, Waiting
from tunesmith_engine.lifecycle.run_state import STOP_CAUSES, JobFailure, RunState, is_stopping
from tunesmith_engine.stages.contracts import StageResult

BACKOFF_BASE_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0

# The cluster took the attempt away: no fault of the stage.
_DISRUPTIONS: Final[Mapping[Reason, str]] = {
    Reason.NODE_LOST: "the node of {stage} was lost or shut down",
    Reason.POD_DELETED: "somebody deleted the pod of {stage}",
    Reason.PREEMPTED: "the cluster took the pod of {stage} off its node",
}


@dataclass(frozen=True, slots=True)
class Termination:
    """Why an attempt ended without success, and what follows.

    `log_hint` ends a message about it: where a person reads more. It stands apart so that cutting
    a long message does not cut it off, and so that two crashes can be compared without it.
    """

    reason: str
    message: str
    action: Literal["FailJob", "Ignore", "Count"] = "Count"
    log_hint: str = ""


def judge_termination(
    stage: StageStatus, attempt: ObservedAttempt | None, *, previous: Attempt | None
) -> Termination:
    """How the stage's attempt ended, which no longer runs; None was never seen at all.

    `previous` is the stage's attempt before it: the same crash at the same step is not tried a
    third time.
    """
    termination = _termination_of(stage, attempt)
    # What is killed or runs out of memory or disk may fare better another time.
    if previous is None or termination.reason != Reason.STAGE_CRASHED:
        return termination
    # The message holds error and step; what is stored was truncated in the same way.
    repeated = (termination.reason, truncate_message(termination.message))
    if repeated != (previous.reason, previous.message):
        return termination
    message = f"{stage.name} crashed twice alike: {termination.message}"
    return replace(termination, message=message, action="FailJob")


def job_failure(
    stage: StageStatus,
    termination: Termination,
    result: StageResult | None,
    *,
    failures: int,
    backoff_limit: int,
) -> JobFailure | None:
    """The failure of the job that follows from this end; None if there is another attempt.

    `failures` are those of the stage that count, with this one.
    """
    if termination.action == "FailJob":
        message = truncate_message(termination.message, suffix=termination.log_hint)
        return JobFailure(reason=termination.reason, message=message, result=result)
    if termination.action == "Ignore" or failures <= backoff_limit:
        return None
    message = (
        f"{stage.name} failed {failures} times, at last with {termination.reason}: "
        f"{termination.message}"
    )
    message = truncate_message(message, suffix=termination.log_hint)
    return JobFailure(reason=Reason.BACKOFF_LIMIT_EXCEEDED, message=message, result=result)


def result_of_attempt(attempt: ObservedAttempt | None) -> StageResult | None:
    """The attempt's result, unless it is one of another stage, key or attempt."""
    result = attempt.result if attempt else None
    if attempt is None or result is None:
        return None
    # A file or a report may be left from an attempt before this one, or be of another release.
    is_own = (result.stage, result.key, result.attempt) == (
        attempt.stage,
        attempt.key,
        attempt.attempt,
    )
    return result if is_own else None


def is_disrupted(waiting: Waiting) -> bool:
    """Whether the attempt is on its way off its node: it ends by itself, and waits for nothing."""
    return waiting.reason in _DISRUPTIONS and not waiting.in_queue


def backoff_until(state: RunState, stage: StageStatus, *, now: datetime) -> datetime | None:
    """When the stage may be started again, or None for at once.

    1 s after the first failure, then twice as long each time, at most 60 s.
    """
    last = state.last_attempt(stage)
    # NB: a clock that was set back to before the failure cannot tell how long ago that was. It
    # would hold the retry up until it has caught up again, so there is no wait then.
    if stage.failures == 0 or last is None or last.end_time is None or now < last.end_time:
        return None
    # The exponent is bounded for `failures` of any size; 2 ** 16 is far above the maximum.
    doublings = min(stage.failures - 1, 16)
    delay = timedelta(seconds=min(BACKOFF_BASE_S * 2**doublings, BACKOFF_MAX_S))
    return last.end_time + delay if now < last.end_time + delay else None


def _termination_of(stage: StageStatus, attempt: ObservedAttempt | None) -> Termination:
    result = result_of_attempt(attempt)
    # A verdict counts also where the stage was told to stop: it had come to its end before.
    if result is not None and result.outcome == "Failed":
        return _reported(stage, result, attempt)
    if is_stopping(stage):
        message = f"{stage.name} was stopped; it can go on"
        return Termination(stage.reason, message, action="Ignore")
    if result is not None:
        message = f"{stage.name} said that it is done, but its artifacts are not there"
        return Termination(Reason.STAGE_CRASHED, message, log_hint=_log_hint(attempt))
    return _crashed(stage, attempt)


def _reported(
    stage: StageStatus, result: StageResult, attempt: ObservedAttempt | None
) -> Termination:
    reason, message = truncate_reason(result.reason), truncate_message(result.message)
    if result.bad_input or not result.retryable:
        return Termination(reason, message, action="FailJob")
    if is_stopping(stage):
        return Termination(stage.reason, message, action="Ignore")
    if reason == Reason.STAGE_CRASHED:
        message = truncate_message(message, suffix=_in_brackets(_step_of(attempt)))
    return Termination(reason, message, log_hint=_log_hint(attempt))


def _crashed(stage: StageStatus, attempt: ObservedAttempt | None) -> Termination:
    cause = (attempt.cause if attempt else None) or Reason.STAGE_CRASHED
    if cause in _DISRUPTIONS and stage.reason in _DISRUPTIONS:
        # Once its pod is gone, a lost node looks like a preemption; what was noted while the pod
        # was being taken away says the most.
        cause = Reason(stage.reason)
    if cause in _DISRUPTIONS:
        message = f"{_DISRUPTIONS[cause].format(stage=stage.name)}; it is started again"
        return Termination(cause, message, action="Ignore")
    return Termination(
        cause,
        _crash_message(stage, attempt, cause=cause),
        action="Ignore" if cause in STOP_CAUSES else "Count",
        log_hint=_log_hint(attempt),
    )


def _crash_message(stage: StageStatus, attempt: ObservedAttempt | None, *, cause: Reason) -> str:
    """What a crash left behind: the error that its log ends with, or else how the process ended."""
    code = attempt.exit_code if attempt else None
    exited = "" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
    # The log of what was killed ends anywhere, so its last line says nothing about why. Without an
    # exit code the line is not of a log, but what the cluster says.
    is_telling = cause is Reason.STAGE_CRASHED or code is None
    last_line = attempt.termination_message if attempt and is_telling else ""
    if last_line:
        return truncate_message(last_line, suffix=_in_brackets(exited, _step_of(attempt)))
    ended = f"ended with {exited}" if exited else "ended"
    message = f"the {stage.name} process {ended} and left no result"
    return truncate_message(message, suffix=_in_brackets(_step_of(attempt)))


def _step_of(attempt: ObservedAttempt | None) -> str:
    step = attempt.progress.step if attempt and attempt.progress else None
    return "" if step is None else f"step {step}"


def _in_brackets(*parts: str) -> str:
    text = ", ".join(filter(None, parts))
    return f" ({text})" if text else ""


def _log_hint(attempt: ObservedAttempt | None) -> str:
    return f"; see {attempt.log}" if attempt and attempt.log else "; see its log"
