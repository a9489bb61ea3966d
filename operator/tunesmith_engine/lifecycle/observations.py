"""What `advance` reads and what it decides.

An executor, local or in a cluster, fills in `Observations`, applies the `Decision`'s actions and
stores its status. It decides nothing itself, so both places run jobs alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Progress, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageName, StageResult

StopCause = Literal["Suspended", "Interrupted", "DeadlineExceeded", "Superseded"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an attempt that was started does no work now, and since when.

    It is told `grace_s` seconds after `since`: most waits end by themselves before. After
    `patience_s` seconds the job fails with `reason`; None waits for as long as the job's own
    deadlines let it. `message` ends with what a person can do about it. `in_queue` is a wait for
    the job's turn, before anything of the attempt runs. `again_s` is for a wait of whose changes
    nobody tells: it is looked at again after as long as it has lasted, at most so many seconds.
    """

    reason: Reason
    message: str
    since: datetime
    grace_s: float = 3.0
    patience_s: float | None = None
    in_queue: bool = False
    again_s: float | None = None

    @property
    def told_at(self) -> datetime:
        """When the status begins to speak of it."""
        return self.since + timedelta(seconds=self.grace_s)

    @property
    def hopeless_at(self) -> datetime | None:
        """When the job is given up, if at all."""
        if self.patience_s is None:
            return None
        return self.since + timedelta(seconds=self.patience_s)

    def again_at(self, now: datetime) -> datetime | None:
        """When to look again without having heard of it, if at all."""
        if self.again_s is None:
            return None
        lasted = (now - self.since).total_seconds()
        return now + timedelta(seconds=min(max(lasted, 1.0), self.again_s))


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """One attempt of a stage as its executor sees it now.

    An attempt that ended without a `result` has crashed; `cause` then says what the executor
    knows about why, `termination_message` what its log ends with, and `exit_code` is negative for a
    signal, as `subprocess` has it. `progress` is the last that it told, and `log` is where or how a
    person reads its log. `waiting` is set for an attempt that counts as running although its
    process does not. `admitted` is when it left its queue last, `began` and `ended` when its
    process did so;
    without both, the process ran from the start to the end of the attempt, and with `ended` alone
    it never ran.
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
    whatever else of the job still runs. `stop_asked` is a person's Ctrl-C: the running stage is
    stopped, the job stays unfinished.
    """

    finished: Mapping[str, StageResult] = field(default_factory=dict)
    attempts: tuple[AttemptSeen, ...] = ()
    stop_asked: bool = False

    def attempt_of(self, stage: StageStatus) -> AttemptSeen | None:
        """The attempt of the stage's key that was seen last."""
        mine = (stage.name, stage.key)
        found = (each for each in self.attempts if (each.stage, each.key) == mine)
        return max(found, key=lambda each: each.attempt, default=None)


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
