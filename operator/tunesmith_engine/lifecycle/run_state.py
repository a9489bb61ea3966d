"""The stages and attempts of a run while one step of `advance` is worked out.

`RunState.of` takes them from the stored status, `stage_states.py` brings them up to date,
`transitions.py` writes down what is started and stopped, and `next_status.py` makes a status of
them again. `Context` is what stays the same meanwhile.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tunesmith_api.finetunejob.status import MAX_ATTEMPTS, Attempt, FineTuneJobStatus, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.lifecycle.accounting import count_time
from tunesmith_engine.lifecycle.observations import Observations, ObservedAttempt, StopCause
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.contracts import StageResult

# What `FineTuneJobStatus.attempts` takes; the oldest are dropped.

# A stage that is under way with one of these reasons was told to stop. The reason is the only note
# of that in the status: an attempt that was told once stays told until it is seen to have ended,
# also when the suspension that caused it is over and the operator has been replaced meanwhile.
STOP_CAUSES: Final[Mapping[str, StopCause]] = {
    Reason.SUSPENDED: "Suspended",
    Reason.INTERRUPTED: "Interrupted",
    Reason.DEADLINE_EXCEEDED: "DeadlineExceeded",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a step starts from. Since `active_since` the job runs without a suspension."""

    plan: Plan
    seen: Observations
    now: datetime
    active_since: datetime


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why the job cannot go on, and the result that said so, if one did."""

    reason: str
    message: str
    result: StageResult | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """The stages of the plan in order, the attempts of this run, and the failure that ends it.

    Every method returns a new state. A `stage` names the one that is meant; its other fields may be
    those of an earlier state.
    """

    stages: tuple[StageStatus, ...]
    attempts: tuple[Attempt, ...]
    failure: JobFailure | None = None

    @classmethod
    def of(cls, plan: Plan, status: FineTuneJobStatus) -> "RunState":
        """The stages of `plan` as `status` left them; those it does not know are pending."""
        known = {(stage.name, stage.key): stage for stage in status.stages}
        stages = tuple(
            known.get((planned.name, planned.key)) or pending_stage(planned)
            for planned in plan.stages
        )
        return cls(stages=stages, attempts=tuple(status.attempts))

    @property
    def current(self) -> StageStatus | None:
        """The first stage that is not done, or None."""
        return next((stage for stage in self.stages if stage.state != "Succeeded"), None)

    def is_current(self, stage: StageStatus) -> bool:
        """Whether it is the turn of this stage."""
        return self.current is not None and self.current.name == stage.name

    def stage(self, name: str) -> StageStatus:
        """The stage of this name, which the plan has."""
        return next(stage for stage in self.stages if stage.name == name)

    def update_stage(self, stage: StageStatus, **fields: Any) -> "RunState":
        """Replace fields of one stage."""
        stages = tuple(
            known.model_copy(update=fields) if known.name == stage.name else known
            for known in self.stages
        )
        return replace(self, stages=stages)

    def start_attempt(
        self, stage: StageStatus, *, number: int, accelerators: int, now: datetime
    ) -> "RunState":
        """Note an attempt that is started now, or was seen to run."""
        # An attempt that is still open was never seen to end: at most one of a stage is open.
        state = self.end_attempt(stage, now=now, reason=Reason.INTERRUPTED)
        attempt = Attempt(
            stage=stage.name,
            number=number,
            start_time=now,
            reason=Reason.RUNNING,
            accelerators=accelerators,
            waiting_since=now,
        )
        state = state.update_stage(
            stage,
            state="Running",
            attempt=number,
            reason=Reason.RUNNING,
            message="",
            result_digest=None,
        )
        return replace(state, attempts=(*state.attempts, attempt)[-MAX_ATTEMPTS:])

    def mark_running(self, stage: StageStatus) -> "RunState":
        """Note that the stage's attempt is at work."""
        return self._mark(stage, state="Running", reason=Reason.RUNNING, message="")

    def mark_waiting(self, stage: StageStatus, *, reason: Reason, message: str) -> "RunState":
        """Note what the stage's attempt waits for."""
        return self._mark(stage, state="Waiting", reason=reason, message=truncate_message(message))

    def count_time(
        self, stage: StageStatus, observed: ObservedAttempt, *, now: datetime
    ) -> "RunState":
        """Count the time of the stage's open attempt, if it is the observed one."""
        return self._change_open_attempt(
            stage,
            lambda attempt: (
                count_time(attempt, observed, now=now)
                if attempt.number == observed.attempt
                else attempt
            ),
        )

    def end_attempt(
        self,
        stage: StageStatus,
        *,
        now: datetime,
        reason: str,
        message: str = "",
        resumed_from_step: int | None = None,
    ) -> "RunState":
        """Close the stage's open attempt, if it has one."""
        fields = {
            "end_time": now,
            "reason": reason,
            "message": truncate_message(message),
            "resumed_from_step": resumed_from_step,
            "waiting_since": None,
            "running_since": None,
        }
        return self._change_open_attempt(stage, lambda attempt: attempt.model_copy(update=fields))

    def give_up(
        self, stage: StageStatus, *, now: datetime, reason: Reason, message: str
    ) -> "RunState":
        """Fail the job since the stage's attempt has waited for too long."""
        message = truncate_message(message)
        state = self.end_attempt(stage, now=now, reason=reason)
        state = state.update_stage(stage, state="Failed", reason=reason, message=message)
        return replace(state, failure=JobFailure(reason=reason, message=message))

    def open_attempt(self, stage: StageStatus) -> Attempt | None:
        """The stage's attempt that has not ended."""
        return next((attempt for attempt in self.attempts if _is_open(attempt, of=stage)), None)

    def last_attempt(self, stage: StageStatus) -> Attempt | None:
        """The stage's latest attempt in this run."""
        latest_first = reversed(self.attempts)
        return next((attempt for attempt in latest_first if attempt.stage == stage.name), None)

    def last_ended_attempt(self, stage: StageStatus) -> Attempt | None:
        """The stage's latest attempt in this run that is over."""
        ended = (attempt for attempt in reversed(self.attempts) if attempt.end_time is not None)
        return next((attempt for attempt in ended if attempt.stage == stage.name), None)

    def _mark(self, stage: StageStatus, *, state: str, reason: Reason, message: str) -> "RunState":
        marked = self.update_stage(stage, state=state, reason=reason, message=message)
        return marked._change_open_attempt(  # noqa: SLF001 - of the same class
            stage, lambda attempt: attempt.model_copy(update={"reason": reason})
        )

    def _change_open_attempt(
        self, stage: StageStatus, change: Callable[[Attempt], Attempt]
    ) -> "RunState":
        attempts = tuple(
            change(attempt) if _is_open(attempt, of=stage) else attempt for attempt in self.attempts
        )
        return replace(self, attempts=attempts)


def pending_stage(planned: PlannedStage) -> StageStatus:
    """A stage of which nothing has happened yet."""
    return StageStatus(
        name=planned.name,
        key=planned.key,
        reason=Reason.PENDING,
        spec_digest=planned.spec_digest,
    )


def is_stopping(stage: StageStatus) -> bool:
    """Whether the stage's attempt was told to stop and is not seen to have ended."""
    return stage.is_under_way and stage.reason in STOP_CAUSES


def is_waiting(stage: StageStatus) -> bool:
    """Whether the stage's attempt was started and waits for something that the status names."""
    return stage.state == "Waiting" and not is_stopping(stage)


def _is_open(attempt: Attempt, *, of: StageStatus) -> bool:
    return attempt.stage == of.name and attempt.end_time is None
