"""Random runs of a job: whatever the world does, and in whatever order, the promises hold.

A state machine stands for an executor that starts and stops attempts as it is told, while attempts
end in every way, the runner dies between deciding and doing, observations lag, the clock jumps,
people suspend, interrupt and change the job. After every step the promises are checked; at the end
faults cease and the job has to come to rest.
"""

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from simulation import Simulation, a_failure, a_plan, a_result, is_at_rest
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import Decision, Observations, Start
from tunesmith_engine.lifecycle.runs import rerun
from tunesmith_engine.stages.catalog import PREPARE, PUBLISH, TRAIN
from tunesmith_engine.stages.contracts import StageName

MAX_STEPS_TO_REST = 60
LIMIT = 2
UNTIL = (PREPARE.name, TRAIN.name, PUBLISH.name)
CAUSES = (None, Reason.KILLED, Reason.OUT_OF_MEMORY, Reason.INTERRUPTED)
VERDICTS: tuple[dict[str, Any], ...] = (
    {"reason": Reason.DATASET_INVALID, "bad_input": True},
    {"reason": Reason.EVALUATION_GATE_FAILED},
)
something_runs = precondition(lambda self: bool(self.simulation.running))


class RandomRun(RuleBasedStateMachine):
    """One job, and faults of every kind."""

    simulation: Simulation
    job: dict[str, Any]

    @initialize(until=st.sampled_from(UNTIL), deadline=st.sampled_from([None, 40]))
    def apply(self, until: StageName, deadline: int | None) -> None:
        self.job = {
            "until": until,
            "backoffLimit": LIMIT,
            "activeDeadlineSeconds": deadline,
            "generation": 1,
        }
        self.simulation = Simulation(a_plan(**self.job))

    # What the engine does.

    @rule(times=st.integers(1, 3))
    def step(self, times: int) -> None:
        for _ in range(times):
            before, seen = self.simulation.status, self.simulation.observations()
            decision = self.simulation.step()
            self.check(before, decision, seen=seen)

    @rule()
    def die_before_acting(self) -> None:
        """The status is stored; the actions are lost."""
        before, decision = self.simulation.status, self.simulation.decide()
        self.simulation.status = decision.status
        self.check(before, decision, seen=self.simulation.observations())

    @rule()
    def act_without_writing_it_down(self) -> None:
        """The actions are carried out; the status is lost."""
        self.simulation.apply(self.simulation.decide())

    @rule()
    def step_on_a_lagging_view(self) -> None:
        """Attempts exist that the executor does not see yet."""
        seen = replace(self.simulation.observations(), attempts=())
        before = self.simulation.status
        decision = advance(self.simulation.plan, before, seen, now=self.simulation.now)
        self.simulation.status = decision.status
        if not self.simulation.running:
            self.simulation.apply(decision)
        self.check(before, decision, seen=seen)

    # What attempts do.

    @something_runs
    @rule()
    def succeed(self) -> None:
        self.simulation.finish()

    @something_runs
    @rule()
    def succeed_but_linger(self) -> None:
        (attempt,) = self.simulation.running
        self.simulation.finished[attempt.key] = a_result(attempt)

    @something_runs
    @rule(cause=st.sampled_from(CAUSES), code=st.sampled_from([None, 1, -9]))
    def crash(self, cause: Reason | None, code: int | None) -> None:
        self.simulation.end(cause=cause, exit_code=code)

    @something_runs
    @rule()
    def fail_for_now(self) -> None:
        self.simulation.refuse(Reason.SOURCE_UNREACHABLE, retryable=True)

    @something_runs
    @rule(verdict=st.sampled_from(VERDICTS))
    def fail_for_good(self, verdict: dict[str, Any]) -> None:
        self.simulation.refuse(**verdict)

    @something_runs
    @rule()
    def leave_a_result_of_another_attempt(self) -> None:
        (attempt,) = self.simulation.running
        stale = a_failure(replace(attempt, attempt=attempt.attempt + 7), Reason.LOSS_DIVERGED)
        self.simulation.end(result=stale)

    # What people and machines do.

    @rule(seconds=st.sampled_from([0.4, 1, 5, 100, -3, -1000]))
    def move_the_clock(self, seconds: float) -> None:
        self.simulation.pass_time(seconds)

    @rule()
    def press_ctrl_c(self) -> None:
        self.simulation.stop_requested = True

    @rule()
    def run_again(self) -> None:
        self.simulation.stop_requested = False
        self.simulation.status = rerun(
            self.simulation.plan, self.simulation.status, finished=self.simulation.finished
        )

    @rule(suspend=st.booleans())
    def set_suspend(self, *, suspend: bool) -> None:
        self.change(suspend=suspend)

    @rule(data=st.sampled_from(["data", "other"]))
    def change_the_data(self, data: str) -> None:
        self.change(data=data)

    @rule(until=st.sampled_from(UNTIL))
    def ask_for_more_or_less(self, until: StageName) -> None:
        self.change(until=until)

    @rule(value=st.sampled_from(["", "1", "2"]))
    def ask_for_a_retry(self, value: str) -> None:
        self.job["retry"] = value
        self.simulation.plan = a_plan(**self.job)

    @precondition(lambda self: bool(self.simulation.finished))
    @rule(data=st.data())
    def lose_artifacts(self, data: st.DataObject) -> None:
        del self.simulation.finished[data.draw(st.sampled_from(sorted(self.simulation.finished)))]

    def change(self, **fields: Any) -> None:
        if all(self.job.get(name) == value for name, value in fields.items()):
            return
        self.job |= {**fields, "generation": self.job["generation"] + 1}
        self.simulation.plan = a_plan(**self.job)

    # What must hold.

    @invariant()
    def no_two_attempts_run_at_once(self) -> None:
        if hasattr(self, "simulation"):
            assert len(self.simulation.running) <= 1

    @invariant()
    def no_attempt_is_started_twice(self) -> None:
        if hasattr(self, "simulation"):
            assert len(set(self.simulation.started)) == len(self.simulation.started)

    def check(
        self,
        before: FineTuneJobStatus | None,
        decision: Decision,
        *,
        seen: Observations,
    ) -> None:
        self.check_that_the_status_is_sound(decision.status)
        self.check_that_conditions_move_only_on_flips(before, decision.status)
        self.check_that_nothing_more_happens_at_the_same_sight(decision, seen)
        self.check_that_final_phases_stay(before, decision)

    def check_that_the_status_is_sound(self, status: FineTuneJobStatus) -> None:
        again = FineTuneJobStatus.model_validate_json(status.model_dump_json(by_alias=True))
        assert again == status
        assert all(stage.failures <= LIMIT + 1 for stage in status.stages)
        assert sum(stage.state == "Running" for stage in status.stages) <= 1

    def check_that_conditions_move_only_on_flips(
        self, before: FineTuneJobStatus | None, after: FineTuneJobStatus
    ) -> None:
        old = {each.type: each for each in before.conditions} if before else {}
        for each in after.conditions:
            was = old.get(each.type)
            moved = was is None or was.last_transition_time != each.last_transition_time
            flipped = was is None or was.status != each.status
            assert flipped or not moved
            assert not flipped or each.last_transition_time == self.simulation.now

    def check_that_nothing_more_happens_at_the_same_sight(
        self, decision: Decision, seen: Observations
    ) -> None:
        """At what was seen before the actions were carried out, the same is decided again."""
        again = advance(self.simulation.plan, decision.status, seen, now=self.simulation.now)
        assert again.status == decision.status
        assert set(again.actions) <= set(decision.actions)

    def check_that_final_phases_stay(
        self, before: FineTuneJobStatus | None, decision: Decision
    ) -> None:
        if before is None or not before.is_finished:
            return
        known = {stage.name: stage.key for stage in before.stages}
        keys = {stage.name: stage.key for stage in self.simulation.plan.stages}
        same_keys = all(known.get(name, key) == key for name, key in keys.items())
        asked = self.simulation.plan.retry_requested
        is_asked = asked not in {"", before.last_handled_retry_at}
        assert decision.status.last_handled_retry_at == (asked or before.last_handled_retry_at)
        if not same_keys or before.observed_generation != self.simulation.plan.generation:
            return
        if not is_asked or before.phase == Phase.SUCCEEDED:
            noted = {"last_handled_retry_at": decision.status.last_handled_retry_at}
            assert decision.status == before.model_copy(update=noted)
            assert not any(isinstance(action, Start) for action in decision.actions)

    def teardown(self) -> None:
        """Once faults stop, every job comes to rest."""
        if not hasattr(self, "simulation"):
            return
        simulation = self.simulation
        simulation.stop_requested = False
        self.change(suspend=False)
        simulation.run_until(
            lambda each: each.status is not None and is_at_rest(each.status) and not each.running,
            steps=MAX_STEPS_TO_REST,
        )


def test_the_promises_hold_in_random_runs() -> None:
    run_state_machine_as_test(RandomRun, settings=settings(max_examples=60, stateful_step_count=30))
