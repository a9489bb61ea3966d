"""What `advance` reads and what it decides.

An executor, local or in a cluster, fills in `Observations`, applies the `Decision`'s actions and
stores its status. It decides nothing itself, so both places run jobs alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Progress, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.stages.contracts import StageName, StageResult

StopCause = Literal["Suspended", "Interrupted", "DeadlineExceeded", "Superseded"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an attempt that was started does no work now, and since when.

    `grace_s`: seconds from `since` on in which the status says nothing of it. `timeout_s`: seconds
    after which the job fails with `reason`; None leaves that to the job's own deadlines. `in_queue`
    is a wait for the job's turn, before anything of the attempt runs. `recheck_s`: for a wait whose
    changes no watch tells of, the most seconds between two looks. `message` ends with what a person
    can do.
    """

    reason: Reason
    message: str
    since: datetime
    # Most waits end by themselves within it, and each that the status names costs a write.
    grace_s: float = 3.0
    timeout_s: float | None = None
    in_queue: bool = False
    recheck_s: float | None = None

    @property
    def reported_at(self) -> datetime:
        """When the status begins to name it."""
        return self.since + timedelta(seconds=self.grace_s)

    @property
    def times_out_at(self) -> datetime | None:
        """When the job fails for it, if at all."""
        if self.timeout_s is None:
            return None
        return self.since + timedelta(seconds=self.timeout_s)

    def recheck_at(self, now: datetime) -> datetime | None:
        """When to look again without having heard of it, if at all."""
        if self.recheck_s is None:
            return None
        # After as long as it has lasted, which doubles the interval each time.
        elapsed_s = (now - self.since).total_seconds()
        return now + timedelta(seconds=min(max(elapsed_s, 1.0), self.recheck_s))


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """One attempt of a stage as its executor sees it now.

    An attempt that ended without a `result` has crashed; `cause` then says what the executor
    knows about why, `termination_message` what its log ends with, and `exit_code` is negative for a
    signal, as `subprocess` has it. `progress` is the last that it reported, and `log` is where or
    how a person reads its log. `waiting` is set for an attempt that counts as running although its
    process does not. `admitted` is when it left its queue last, `began` and `ended` when its
    process did so; without both, the process ran from the start to the end of the attempt, and with
    `ended` alone it never ran.
    """

    stage: StageName
    key: str
    attempt: int
    is_running: bool
    progress: Progress | None = None
    waiting: Waiting | None = None
    result: StageResult | None = None
    exit_code: int | None = None
    cause: Reason | None = None
    termination_message: str = ""
    log: str = ""
    admitted: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything seen at one moment.

    `finished` holds, by key, the results of stages that are done and whose artifacts are there.
    `attempts` holds the latest attempt of each planned stage's key, however long ago it ended, and
    whatever else of the job still runs. `stop_requested` is a person's Ctrl-C: the running stage is
    stopped, the job stays unfinished.
    """

    finished: Mapping[str, StageResult] = field(default_factory=dict)
    attempts: tuple[ObservedAttempt, ...] = ()
    stop_requested: bool = False

    def latest_attempt(self, stage: StageStatus) -> ObservedAttempt | None:
        """The attempt of the stage's key that has the highest number."""
        attempts = [
            attempt
            for attempt in self.attempts
            if (attempt.stage, attempt.key) == (stage.name, stage.key)
        ]
        return max(attempts, key=lambda attempt: attempt.attempt, default=None)

    def with_refused(self, start: "Start", message: str) -> "Observations":
        """What is seen once nothing can be made for an attempt: it has ended, its input was bad."""
        result = StageResult(
            stage=start.stage,
            key=start.key,
            attempt=start.attempt,
            outcome="Failed",
            reason=Reason.INVALID_SPEC,
            message=truncate_message(message),
            bad_input=True,
        )
        refused = ObservedAttempt(
            start.stage, start.key, start.attempt, is_running=False, result=result
        )
        return replace(self, attempts=(*self.attempts, refused))

    def running_attempts(self) -> list[ObservedAttempt]:
        """The attempts that run, of whatever key and number."""
        return [attempt for attempt in self.attempts if attempt.is_running]


@dataclass(frozen=True, slots=True)
class Start:
    """Start this attempt of the stage; doing so twice is the same as once."""

    stage: StageName
    key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End this attempt and everything it started; one that has ended is left alone."""

    stage: StageName
    key: str
    attempt: int
    because: StopCause


Action = Start | Stop


@dataclass(frozen=True, slots=True)
class Decision:
    """The next status, what to do now, and when to look again at the latest.

    `is_expired` says that the job is over for longer than it was to be kept.
    """

    status: FineTuneJobStatus
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None
    is_expired: bool = False
