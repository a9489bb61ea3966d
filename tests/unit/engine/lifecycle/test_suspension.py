"""Suspension, Ctrl-C, deadlines, and attempts that nobody asked for."""

from dataclasses import replace
from typing import Any

import pytest

from simulation import Simulation, a_plan, a_result, is_at_rest
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import ObservedAttempt, Start, Stop
from tunesmith_engine.stages.catalog import EVALUATE, PREPARE, TRAIN


def training(**spec: Any) -> Simulation:
    simulation = Simulation(a_plan(**spec))
    simulation.run_up_to(TRAIN.name)
    return simulation


def hold(simulation: Simulation, reason: Reason) -> None:
    if reason is Reason.SUSPENDED:
        simulation.plan = a_plan(suspend=True)
    else:
        simulation.stop_requested = True


def release(simulation: Simulation) -> None:
    simulation.plan = a_plan()
    simulation.stop_requested = False


def status_of(simulation: Simulation) -> FineTuneJobStatus:
    assert simulation.status is not None
    return simulation.status


HOLDS = pytest.mark.parametrize("reason", [Reason.SUSPENDED, Reason.INTERRUPTED])


@HOLDS
def test_a_held_job_stops_its_attempt_and_comes_to_rest(reason: Reason) -> None:
    simulation = training()
    hold(simulation, reason)

    stopping = simulation.step()
    is_still_busy = not is_at_rest(status_of(simulation))
    simulation.end(exit_code=-15)
    simulation.step()

    assert [(each.stage, each.because) for each in stopping.actions if isinstance(each, Stop)] == [
        (TRAIN.name, reason)
    ]
    assert is_still_busy
    assert is_at_rest(status_of(simulation))
    assert status_of(simulation).phase == Phase.SUSPENDED
    assert simulation.condition("Suspended").reason == reason
    assert simulation.condition("Reconciling").status == "False"
    assert simulation.stage(TRAIN.name).failures == 0


@HOLDS
def test_a_held_job_goes_on_with_the_next_attempt(reason: Reason) -> None:
    simulation = training()
    hold(simulation, reason)
    simulation.step()
    simulation.end(exit_code=-15)
    simulation.step()
    release(simulation)

    simulation.step()

    assert simulation.started[-1].stage == TRAIN.name
    assert simulation.started[-1].attempt == 2
    assert simulation.condition("Suspended").status == "False"


@HOLDS
def test_a_stage_that_finishes_while_it_is_stopped_is_done(reason: Reason) -> None:
    simulation = training()
    hold(simulation, reason)
    simulation.step()
    simulation.finish()

    simulation.step()

    assert simulation.stage(TRAIN.name).state == "Succeeded"
    assert is_at_rest(status_of(simulation))


def test_a_verdict_given_while_the_stage_is_stopped_counts() -> None:
    simulation = training()
    simulation.stop_requested = True
    simulation.step()
    simulation.refuse(Reason.LOSS_DIVERGED)

    simulation.step()

    assert status_of(simulation).phase == Phase.FAILED


def test_an_attempt_told_to_stop_is_not_taken_back_when_the_hold_ends() -> None:
    simulation = training()
    simulation.stop_requested = True
    simulation.step()
    simulation.stop_requested = False

    decision = simulation.step()
    simulation.end(exit_code=-15)
    simulation.step()

    assert [type(action) for action in decision.actions] == [Stop]
    assert simulation.started[-1].attempt == 2
    assert simulation.stage(TRAIN.name).failures == 0


def test_a_job_suspended_from_the_start_starts_nothing() -> None:
    simulation = Simulation(a_plan(suspend=True))

    simulation.step()

    assert simulation.started == []
    assert status_of(simulation).start_time is None
    assert is_at_rest(status_of(simulation))


def test_a_job_past_its_deadline_stops_and_then_fails() -> None:
    simulation = training(activeDeadlineSeconds=100)

    simulation.pass_time(100)
    stopping = simulation.step()
    is_failed_yet = status_of(simulation).is_finished
    simulation.end(exit_code=-15)
    simulation.step()

    assert [each.because for each in stopping.actions if isinstance(each, Stop)] == [
        "DeadlineExceeded"
    ]
    assert not is_failed_yet
    assert status_of(simulation).phase == Phase.FAILED
    assert simulation.condition("Failed").reason == Reason.DEADLINE_EXCEEDED
    assert simulation.condition("Trained").reason == Reason.DEADLINE_EXCEEDED


def test_a_job_with_a_deadline_is_looked_at_when_it_passes() -> None:
    simulation = Simulation(a_plan(activeDeadlineSeconds=100))

    decision = simulation.step()

    assert decision.wake_at is not None
    assert (decision.wake_at - simulation.now).total_seconds() == 100


def test_time_in_suspension_does_not_count_towards_the_deadline() -> None:
    simulation = training(activeDeadlineSeconds=100)
    simulation.stop_requested = True
    simulation.step()
    simulation.end(exit_code=-15)
    simulation.step()
    simulation.pass_time(1000)
    simulation.stop_requested = False

    simulation.step()

    assert status_of(simulation).phase == TRAIN.phase
    assert status_of(simulation).start_time == simulation.now


def test_a_start_that_was_never_carried_out_is_asked_for_again() -> None:
    simulation = Simulation(a_plan())
    lost = simulation.decide()
    simulation.status = lost.status

    again = simulation.decide()

    assert again.actions == lost.actions
    assert again.status == lost.status


def test_a_start_that_was_never_written_down_is_taken_over() -> None:
    simulation = training()
    simulation.end(exit_code=1)
    simulation.step()
    simulation.pass_time(1)
    simulation.apply(simulation.decide())

    simulation.step()

    assert simulation.stage(TRAIN.name).attempt == 2
    assert simulation.stage(TRAIN.name).state == "Running"
    assert len(simulation.running) == 1


def test_an_attempt_with_another_key_is_ended_before_anything_starts() -> None:
    simulation = Simulation(a_plan())
    simulation.see(ObservedAttempt(TRAIN.name, "0" * 64, 3, is_running=True))

    first = simulation.step()
    simulation.end(exit_code=-9)
    second = simulation.step()

    assert first.actions == (Stop(TRAIN.name, "0" * 64, 3, "Superseded"),)
    assert [type(action) for action in second.actions] == [Start]


def test_what_a_finished_attempt_leaves_running_is_ended() -> None:
    simulation = training()
    (attempt,) = simulation.running
    simulation.finished[attempt.key] = a_result(attempt)

    decision = simulation.step()
    simulation.end(exit_code=0)
    simulation.step()

    assert decision.actions == (Stop(attempt.stage, attempt.key, 1, "Superseded"),)
    assert simulation.started[-1].stage == EVALUATE.name


def test_a_numbered_attempt_folder_is_never_used_twice() -> None:
    """The executor still has attempt 4 of this key from a run that the status has forgotten."""
    simulation = Simulation(a_plan())
    key = simulation.plan.stage(PREPARE.name).key
    simulation.see(ObservedAttempt(PREPARE.name, key, 4, is_running=False))

    simulation.step()

    assert simulation.started[-1].attempt == 5


def test_a_superseding_attempt_waits_until_the_old_one_is_gone() -> None:
    simulation = training()
    simulation.plan = a_plan(data="other")

    waiting = simulation.step()
    simulation.end(exit_code=-15)
    simulation.step()

    assert [type(action) for action in waiting.actions] == [Stop]
    assert simulation.started[-1].stage == PREPARE.name
    assert simulation.started[-1].key == simulation.plan.stage(PREPARE.name).key


def test_a_terminal_job_ends_what_still_runs() -> None:
    simulation = training()
    simulation.refuse(Reason.LOSS_DIVERGED)
    simulation.step()
    train = simulation.plan.stage(TRAIN.name)
    simulation.see(replace(simulation.latest[train.name, train.key], is_running=True))

    decision = simulation.step()

    assert [type(action) for action in decision.actions] == [Stop]
