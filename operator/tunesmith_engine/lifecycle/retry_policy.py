"""How an attempt that did not succeed is judged, and how long to wait before the next one.

Bad input and verdicts are final, and so is a crash that repeats the one before it, at the same
step. Faults of the machine count against `backoffLimit`. An attempt that was stopped, preempted, or
lost together with what it ran on, counts as nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tunesmith_api.finetunejob.status import Attempt, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import AttemptSeen, Waiting
from tunesmith_engine.lifecycle.run_state import STOP_MARKS, Ledger, is_told_to_stop
from tunesmith_engine.lifecycle.wording import clipped, sound_reason
from tunesmith_engine.stages.contracts import StageResult

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 60.0

# The cluster took the attempt away: no fault of the stage.
_TAKEN_AWAY: Final[Mapping[Reason, str]] = {
    Reason.NODE_LOST: "the node of {stage} was lost or shut down",
    Reason.POD_DELETED: "somebody deleted the pod of {stage}",
    Reason.PREEMPTED: "the cluster took the pod of {stage} off its node",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an attempt ended without success; `is_final` rules out another, `counts` as a failure.

    `where` ends a message about it: where a person reads more.
    """

    reason: str
    message: str
    is_final: bool = False
    counts: bool = True
    where: str = ""


def ending_of(stage: StageStatus, attempt: AttemptSeen | None) -> Ending:
    """The ending of the stage's attempt, which no longer runs; None was never seen at all."""
    result = own_result(attempt)
    if result is not None and result.outcome == "Failed":
        return _told(stage, result, attempt)
    if is_told_to_stop(stage):
        return Ending(stage.reason, f"{stage.name} was stopped; it can go on", counts=False)
    if result is not None:
        message = f"{stage.name} said that it is done, but its artifacts are not there"
        return Ending(Reason.STAGE_CRASHED, message, where=_where(attempt))
    return _crashed(stage, attempt)


def repeats(ending: Ending, before: Attempt | None) -> bool:
    """Whether this is the crash of the attempt before it once more: same error, same step.

    What is killed or runs out of memory or disk may fare better another time.
    """
    if before is None or ending.reason != Reason.STAGE_CRASHED:
        return False
    told = (ending.reason, clipped(ending.message))
    return told == (before.reason, before.message)


def is_taken_away(waiting: Waiting) -> bool:
    """Whether the attempt is on its way off its node: it ends, and waits for nothing."""
    return waiting.reason in _TAKEN_AWAY and not waiting.in_queue


def own_result(attempt: AttemptSeen | None) -> StageResult | None:
    """The attempt's result, unless it is one of another stage, key or attempt."""
    result = attempt.result if attempt else None
    if attempt is None or result is None:
        return None
    told = (result.stage, result.key, result.attempt)
    return result if told == (attempt.stage, attempt.key, attempt.attempt) else None


def retry_at(ledger: Ledger, stage: StageStatus, *, now: datetime) -> datetime | None:
    """When the stage may be started again, or None for at once.

    1 s after the first failure, then twice as long each time, at most 60 s. If the clock was set
    back to before the failure there is no telling how long ago that was, and no waiting.
    """
    last = ledger.last_attempt(stage)
    if stage.failures == 0 or last is None or last.end_time is None or now < last.end_time:
        return None
    doublings = min(stage.failures - 1, 16)
    delay = timedelta(seconds=min(FIRST_DELAY_S * 2**doublings, MAX_DELAY_S))
    return last.end_time + delay if now < last.end_time + delay else None


def _told(stage: StageStatus, result: StageResult, attempt: AttemptSeen | None) -> Ending:
    reason, message = sound_reason(result.reason), clipped(result.message)
    if result.bad_input or not result.retryable:
        return Ending(reason, message, is_final=True)
    if is_told_to_stop(stage):
        return Ending(stage.reason, message, counts=False)
    if reason == Reason.STAGE_CRASHED:
        message = clipped(message, ending=_in_brackets(_step_of(attempt)))
    return Ending(reason, message, where=_where(attempt))


def _crashed(stage: StageStatus, attempt: AttemptSeen | None) -> Ending:
    cause = _cause(stage, attempt)
    if cause in _TAKEN_AWAY:
        message = f"{_TAKEN_AWAY[cause].format(stage=stage.name)}; it is started again"
        return Ending(cause, message, counts=False)
    return Ending(
        cause,
        _last_sign(stage, attempt, cause=cause),
        counts=cause not in STOP_MARKS,
        where=_where(attempt),
    )


def _last_sign(stage: StageStatus, attempt: AttemptSeen | None, *, cause: Reason) -> str:
    """What a crash left behind: the error that its log ends with, or else how the process ended."""
    code = attempt.exit_code if attempt else None
    how = "" if code is None else _exit_text(code)
    # The log of what was killed ends anywhere; without an exit code, the words are the cluster's.
    says_why = cause is Reason.STAGE_CRASHED or code is None
    words = attempt.termination_message if attempt and says_why else ""
    if words:
        return clipped(words, ending=_in_brackets(how, _step_of(attempt)))
    ended = f"ended with {how}" if how else "ended"
    message = f"the {stage.name} process {ended} and left no result"
    return clipped(message, ending=_in_brackets(_step_of(attempt)))


def _step_of(attempt: AttemptSeen | None) -> str:
    step = attempt.progress.step if attempt and attempt.progress else None
    return "" if step is None else f"step {step}"


def _in_brackets(*parts: str) -> str:
    said = ", ".join(filter(None, parts))
    return f" ({said})" if said else ""


def _where(attempt: AttemptSeen | None) -> str:
    return f"; see {attempt.log}" if attempt and attempt.log else "; see its log"


def _cause(stage: StageStatus, attempt: AttemptSeen | None) -> Reason:
    """Why the attempt ended; what its pod said while it was being taken away says the most."""
    cause = (attempt.cause if attempt else None) or Reason.STAGE_CRASHED
    noted = next((each for each in _TAKEN_AWAY if each == stage.reason), None)
    return noted if noted is not None and cause in _TAKEN_AWAY else cause


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
