"""A simulation of one job: an executor without processes, for tests of `advance`.

A `Simulation` keeps what an executor would (status, finished results, the latest attempts), carries
actions out as their records say, and lets a test decide how each attempt ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from manifests import a_job
from tunesmith_api.conditions import Condition
from tunesmith_api.finetunejob.job import RETRY_ANNOTATION, FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import (
    Decision,
    Observations,
    ObservedAttempt,
    Start,
    Stop,
)
from tunesmith_engine.planning.plan import Plan, plan
from tunesmith_engine.stages.contracts import StageName, StageResult

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def is_at_rest(status: FineTuneJobStatus) -> bool:
    """Whether the job is over, or stopped with nothing left running."""
    if status.is_finished:
        return True
    is_running = any(stage.is_under_way for stage in status.stages)
    return status.phase == Phase.SUSPENDED and not is_running


def a_plan(
    *,
    until: StageName | None = None,
    data: str = "data",
    generation: int = 1,
    retry: str = "",
    **spec: Any,
) -> Plan:
    """The plan of the smallest job with fields of its spec replaced; `data` is its fingerprint.

    `retry` is the value of the annotation that asks for a failed job to be taken up again.
    """
    manifest = a_job(**spec)
    manifest["metadata"] |= {"generation": generation, "annotations": {RETRY_ANNOTATION: retry}}
    job = FineTuneJob.model_validate(manifest)
    return plan(job, fingerprints={"model": "base", "dataset.train": data}, until=until)


def a_result(start: Start | ObservedAttempt, **fields: Any) -> StageResult:
    """A successful result of that attempt, with fields replaced."""
    given = {"outcome": "Succeeded", "reason": Reason.SUCCEEDED, "message": "well done"} | fields
    return StageResult(stage=start.stage, key=start.key, attempt=start.attempt, **given)


def a_failure(start: Start | ObservedAttempt, reason: str, **fields: Any) -> StageResult:
    """A failed result of that attempt; a verdict unless `retryable` or `bad_input` is given."""
    return a_result(start, outcome="Failed", reason=reason, **({"message": "no good"} | fields))


@dataclass
class Simulation:
    """One job and the world around it."""

    plan: Plan
    status: FineTuneJobStatus | None = None
    now: datetime = START
    finished: dict[str, StageResult] = field(default_factory=dict)
    latest: dict[tuple[StageName, str], ObservedAttempt] = field(default_factory=dict)
    started: list[Start] = field(default_factory=list)
    stopped: list[Stop] = field(default_factory=list)
    stop_requested: bool = False

    def observations(self) -> Observations:
        """What the executor sees: the latest attempts of the plan's keys, and all that runs."""
        keys = {stage.key for stage in self.plan.stages}
        return Observations(
            finished=dict(self.finished),
            attempts=tuple(
                each for each in self.latest.values() if each.is_running or each.key in keys
            ),
            stop_requested=self.stop_requested,
        )

    def decide(self) -> Decision:
        """What `advance` says now; nothing is stored or carried out."""
        return advance(self.plan, self.status, self.observations(), now=self.now)

    def step(self) -> Decision:
        """Decide, store the status, carry out the actions."""
        decision = self.decide()
        self.status = decision.status
        self.apply(decision)
        return decision

    def apply(self, decision: Decision) -> None:
        """Start and stop as told; both are harmless when repeated."""
        for action in decision.actions:
            if isinstance(action, Stop):
                self.stopped.append(action)
            elif action not in self.started:
                self.started.append(action)
                self.see(ObservedAttempt(action.stage, action.key, action.attempt, is_running=True))

    def see(self, attempt: ObservedAttempt) -> None:
        """From now on the executor sees this as the latest attempt of its stage and key."""
        self.latest[attempt.stage, attempt.key] = attempt

    @property
    def running(self) -> list[ObservedAttempt]:
        """The attempts that run."""
        return [each for each in self.latest.values() if each.is_running]

    def end(self, **fields: Any) -> None:
        """The one running attempt ends, with these fields of `ObservedAttempt`."""
        (attempt,) = self.running
        self.see(replace(attempt, is_running=False, **fields))

    def finish(self, **fields: Any) -> None:
        """The running attempt succeeds, and its result is kept."""
        (attempt,) = self.running
        result = a_result(attempt, **fields)
        self.end(result=result, exit_code=0)
        self.finished[attempt.key] = result

    def refuse(self, reason: str, **fields: Any) -> None:
        """The running attempt ends with a failed result."""
        (attempt,) = self.running
        self.end(result=a_failure(attempt, reason, **fields), exit_code=1)

    def pass_time(self, seconds: float) -> None:
        """The clock moves, backwards if negative."""
        self.now += timedelta(seconds=seconds)

    def run_until(self, until: Callable[["Simulation"], bool], *, steps: int = 50) -> None:
        """Every attempt succeeds and time passes until `until` holds.

        Raises:
            AssertionError: it does not within so many steps.
        """
        for _ in range(steps):
            decision = self.step()
            if until(self):
                return
            if self.running:
                self.finish()
            elif decision.wake_at is not None:
                self.now = decision.wake_at
        raise AssertionError(f"not there after {steps} steps: {self.status}")

    def run_up_to(self, stage: StageName) -> None:
        """Go on until that stage has just been started."""
        self.run_until(lambda simulation: any(each.stage == stage for each in simulation.running))

    def stage(self, name: StageName) -> StageStatus:
        """What the status says of a stage."""
        assert self.status is not None
        return next(each for each in self.status.stages if each.name == name)

    def condition(self, type_: str) -> Condition:
        """A condition of the status."""
        assert self.status is not None
        return next(each for each in self.status.conditions if each.type == type_)
