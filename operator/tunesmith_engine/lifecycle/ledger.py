"""What is known of each stage and each attempt while one step of `advance` is worked out.

`open_ledger` takes it from the status, `stage_states.py` brings it up to date, `transitions.py`
writes down what is started and stopped, and `next_status.py` turns it into a status again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.accounting import counted
from tunesmith_engine.lifecycle.observations import AttemptSeen, StopCause
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.contracts import StageResult

MAX_ATTEMPTS: Final = 64

# Reasons of a running attempt that was told to stop; it stays told until it has ended.
STOP_MARKS: Final[Mapping[str, StopCause]] = {
    Reason.SUSPENDED: "Suspended",
    Reason.INTERRUPTED: "Interrupted",
    Reason.DEADLINE_EXCEEDED: "DeadlineExceeded",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the job cannot go on, and the result that said so, if one did."""

    reason: str
    message: str
    result: StageResult | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The stages of the plan in order, the attempts of this life, and the failure that ends it."""

    stages: tuple[StageStatus, ...]
    attempts: tuple[Attempt, ...]
    failure: Failure | None = None

    @property
    def current(self) -> StageStatus | None:
        """The first stage that is not done, or None."""
        return next((each for each in self.stages if each.state != "Succeeded"), None)

    def changed(self, stage: StageStatus, **changes: Any) -> "Ledger":
        """The ledger with fields of one stage replaced."""
        stages = tuple(
            each.model_copy(update=changes) if each.name == stage.name else each
            for each in self.stages
        )
        return replace(self, stages=stages)

    def started(
        self, stage: StageStatus, *, attempt: int, accelerators: int, now: datetime
    ) -> "Ledger":
        """The ledger after this attempt was started or found running."""
        ledger = self.ended(stage, now=now, reason=Reason.INTERRUPTED)
        record = Attempt(
            stage=stage.name,
            number=attempt,
            start_time=now,
            reason=Reason.RUNNING,
            accelerators=accelerators,
            waiting_since=now,
        )
        ledger = ledger.changed(
            stage,
            state="Running",
            attempt=attempt,
            reason=Reason.RUNNING,
            message="",
            result_digest=None,
        )
        return replace(ledger, attempts=(*ledger.attempts, record)[-MAX_ATTEMPTS:])

    def going(self, stage: StageStatus, *, waits_for: Reason | None, message: str = "") -> "Ledger":
        """The ledger after the stage's attempt was seen: at work, or waiting for this reason."""
        reason = waits_for or Reason.RUNNING
        attempts = tuple(
            each.model_copy(update={"reason": reason}) if _is_open(each, of=stage) else each
            for each in self.attempts
        )
        state = "Waiting" if waits_for else "Running"
        ledger = self.changed(stage, state=state, reason=reason, message=clipped(message))
        return replace(ledger, attempts=attempts)

    def ended(
        self,
        stage: StageStatus,
        *,
        now: datetime,
        reason: str,
        message: str = "",
        resumed_from_step: int | None = None,
    ) -> "Ledger":
        """The ledger with the stage's open attempt, if it has one, closed."""
        closing = {
            "end_time": now,
            "reason": reason,
            "message": clipped(message),
            "resumed_from_step": resumed_from_step,
            "waiting_since": None,
            "running_since": None,
        }
        attempts = tuple(
            each.model_copy(update=closing) if _is_open(each, of=stage) else each
            for each in self.attempts
        )
        return replace(self, attempts=attempts)

    def counted(self, stage: StageStatus, seen: AttemptSeen, *, now: datetime) -> "Ledger":
        """The ledger with the time of the stage's open attempt counted."""
        attempts = tuple(
            counted(each, seen, now=now)
            if _is_open(each, of=stage) and each.number == seen.attempt
            else each
            for each in self.attempts
        )
        return replace(self, attempts=attempts)

    def open_attempt(self, stage: StageStatus) -> Attempt | None:
        """The stage's attempt that has not ended."""
        return next((each for each in self.attempts if _is_open(each, of=stage)), None)

    def given_up(
        self, stage: StageStatus, *, now: datetime, reason: Reason, message: str
    ) -> "Ledger":
        """The ledger after it was decided that the stage's attempt is not waited for any more."""
        ledger = self.ended(stage, now=now, reason=reason)
        message = clipped(message)
        ledger = ledger.changed(stage, state="Failed", reason=reason, message=message)
        return replace(ledger, failure=Failure(reason=reason, message=message))

    def last_attempt(self, stage: StageStatus) -> Attempt | None:
        """The stage's latest attempt in this life."""
        found = (each for each in reversed(self.attempts) if each.stage == stage.name)
        return next(found, None)

    def last_ended(self, stage: StageStatus) -> Attempt | None:
        """The stage's latest attempt in this life that is over."""
        ended = (each for each in reversed(self.attempts) if each.end_time is not None)
        return next((each for each in ended if each.stage == stage.name), None)


def is_told_to_stop(stage: StageStatus) -> bool:
    """Whether the stage's attempt was stopped and is not seen to have ended."""
    return stage.is_under_way and stage.reason in STOP_MARKS


def is_waiting(stage: StageStatus) -> bool:
    """Whether the stage's attempt was started and waits for something that the status names."""
    return stage.state == "Waiting" and not is_told_to_stop(stage)


def open_ledger(plan: Plan, status: FineTuneJobStatus) -> Ledger:
    """The stages of `plan` as `status` left them; those it does not know are pending."""
    known = {each.name: each for each in status.stages}
    stages = tuple(
        known[each.name]
        if each.name in known and known[each.name].key == each.key
        else StageStatus(name=each.name, key=each.key, reason=Reason.PENDING)
        for each in plan.stages
    )
    return Ledger(stages=stages, attempts=tuple(status.attempts))


def _is_open(attempt: Attempt, *, of: StageStatus) -> bool:
    return attempt.stage == of.name and attempt.end_time is None
