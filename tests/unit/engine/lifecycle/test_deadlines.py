"""The limits of time that a job sets: on its work, on its waits, on its rest after the end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from simulation import START, Simulation, a_plan
from tunesmith_api.finetunejob.status import Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Stop, Waiting
from tunesmith_engine.stages.catalog import TRAIN, VERIFY


def training(**spec: Any) -> Simulation:
    """A job whose training has just been started, at the moment of its own start."""
    simulation = Simulation(a_plan(**spec))
    simulation.run_up_to(TRAIN.name)
    assert simulation.now == START
    return simulation


def wait_for(simulation: Simulation, reason: Reason | None, *, in_queue: bool = False) -> None:
    """From now on the running attempt waits for this; None: it has begun."""
    (attempt,) = simulation.running
    if reason is None:
        now = simulation.now
        simulation.see(replace(attempt, waiting=None, began=now, admitted=now))
        return
    waiting = Waiting(reason, f"{reason} it is", simulation.now, grace_s=0, in_queue=in_queue)
    simulation.see(replace(attempt, waiting=waiting, began=None))


@pytest.mark.parametrize("in_queue", [True, False])
def test_a_stage_that_waits_too_long_fails_with_what_it_waited_for(*, in_queue: bool) -> None:
    simulation = training(preRunningDeadlineSeconds=60)
    wait_for(simulation, Reason.WAITING_FOR_QUOTA, in_queue=in_queue)
    started = simulation.now

    decision = simulation.step()
    while decision.status.phase != Phase.FAILED:
        assert decision.wake_at is not None
        simulation.now = decision.wake_at
        decision = simulation.step()

    assert simulation.now - started == timedelta(seconds=60)
    assert [type(each) for each in decision.actions] == [Stop]
    assert simulation.condition("Failed").reason == Reason.WAITING_FOR_QUOTA
    assert simulation.condition("Failed").message == (
        "preRunningDeadlineSeconds: 60 is over; WaitingForQuota it is"
    )


def test_queue_node_and_image_are_waited_for_within_one_limit() -> None:
    simulation = training(preRunningDeadlineSeconds=60)

    for reason in (Reason.WAITING_FOR_QUOTA, Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED):
        wait_for(simulation, reason, in_queue=reason is Reason.WAITING_FOR_QUOTA)
        simulation.pass_time(29)
        simulation.step()

    assert simulation.condition("Failed").reason == Reason.IMAGE_PULL_FAILED


def test_a_stage_that_runs_has_not_waited_too_long_however_long_it_runs() -> None:
    simulation = training(preRunningDeadlineSeconds=60)
    wait_for(simulation, Reason.UNSCHEDULABLE)
    simulation.pass_time(50)
    simulation.step()

    wait_for(simulation, None)
    simulation.pass_time(5000)
    decision = simulation.step()

    assert decision.status.phase == TRAIN.phase


def test_a_stage_that_is_put_back_into_its_queue_waits_anew() -> None:
    simulation = training(preRunningDeadlineSeconds=60)
    wait_for(simulation, None)
    simulation.pass_time(5000)
    simulation.step()

    wait_for(simulation, Reason.PREEMPTED, in_queue=True)
    early = simulation.step()
    simulation.pass_time(60)
    late = simulation.step()

    assert early.status.phase == Phase.QUEUED
    assert late.status.phase == Phase.FAILED


def test_a_pod_that_is_taken_off_its_node_waits_for_nothing() -> None:
    simulation = training(preRunningDeadlineSeconds=5)
    wait_for(simulation, None)
    simulation.pass_time(100)
    simulation.step()

    wait_for(simulation, Reason.PREEMPTED)
    simulation.pass_time(30)
    decision = simulation.step()

    assert decision.status.phase == TRAIN.phase
    assert simulation.condition("Ready").reason == Reason.PREEMPTED


def test_each_stage_may_wait_as_long_as_the_others() -> None:
    simulation = training(preRunningDeadlineSeconds=60)
    for _ in range(3):
        wait_for(simulation, Reason.UNSCHEDULABLE)
        simulation.pass_time(59)
        simulation.step()
        wait_for(simulation, None)
        simulation.step()
        simulation.finish()
        decision = simulation.step()

    assert decision.status.phase == VERIFY.phase


def test_time_in_a_queue_uses_up_no_deadline_of_the_job() -> None:
    simulation = training(activeDeadlineSeconds=100)
    simulation.pass_time(10)
    wait_for(simulation, Reason.PREEMPTED, in_queue=True)
    queued = simulation.step()
    simulation.pass_time(10_000)
    later = simulation.step()

    wait_for(simulation, None)
    going = simulation.step()
    assert going.wake_at is not None
    simulation.now = going.wake_at
    over = simulation.step()

    assert queued.wake_at is None
    assert later.status.phase == Phase.QUEUED
    assert going.status.phase == TRAIN.phase
    assert simulation.now - START == timedelta(seconds=10_000 + 100)
    assert [type(each) for each in over.actions] == [Stop]
    assert simulation.stage(TRAIN.name).reason == Reason.DEADLINE_EXCEEDED


def test_time_without_a_node_does_use_up_the_deadline_of_the_job() -> None:
    simulation = training(activeDeadlineSeconds=100)
    wait_for(simulation, Reason.UNSCHEDULABLE)
    simulation.pass_time(100)

    decision = simulation.step()

    assert decision.status.phase == Phase.FAILED
    assert simulation.condition("Failed").reason == Reason.UNSCHEDULABLE


@pytest.mark.parametrize("seconds", [0, 600])
@pytest.mark.parametrize("fails", [True, False])
def test_a_job_that_is_over_expires_when_it_says_so(seconds: int, *, fails: bool) -> None:
    simulation = training(ttlSecondsAfterFinished=seconds)
    if fails:
        simulation.refuse(Reason.LOSS_DIVERGED)
    simulation.run_until(lambda each: each.status is not None and each.status.is_finished)
    ended = simulation.now

    decision = simulation.step()
    if seconds:
        assert not decision.is_expired
        assert decision.wake_at == ended + timedelta(seconds=seconds)
        simulation.now = decision.wake_at
        decision = simulation.step()

    assert decision.is_expired
    assert decision.wake_at is None


def test_a_job_is_forgotten_only_when_nothing_of_it_runs() -> None:
    simulation = training(ttlSecondsAfterFinished=0, preRunningDeadlineSeconds=1)
    wait_for(simulation, Reason.UNSCHEDULABLE)
    simulation.pass_time(1)
    simulation.status = simulation.decide().status

    still_running = simulation.step()
    simulation.end()
    over = simulation.step()

    assert [type(each) for each in still_running.actions] == [Stop]
    assert not still_running.is_expired
    assert over.is_expired


def test_a_job_is_kept_for_ever_unless_it_says_otherwise() -> None:
    simulation = training()
    simulation.run_until(lambda each: each.status is not None and each.status.is_finished)
    simulation.pass_time(1e9)

    decision = simulation.step()

    assert not decision.is_expired
    assert decision.wake_at is None


def test_a_suspended_job_never_expires() -> None:
    simulation = Simulation(a_plan(ttlSecondsAfterFinished=0, suspend=True))
    decision = simulation.step()

    assert not decision.is_expired
    assert simulation.status is not None
    assert simulation.status.phase == Phase.SUSPENDED
