"""An attempt that was started and does no work: what the status says, and when it is given up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from simulation import START, Simulation, a_plan
from tunesmith_api.finetunejob.status import Phase, Progress
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Stop, Waiting
from tunesmith_engine.stages.catalog import TRAIN

FULL = "train fits on no node: 3 Insufficient nvidia.com/gpu. Ask for less"


def waiting(
    reason: Reason = Reason.UNSCHEDULABLE,
    *,
    grace_s: float = 0,
    timeout_s: float | None = None,
    **spec: Any,
) -> Simulation:
    """A job whose training has been started, and waits from now on."""
    simulation = Simulation(a_plan(**spec))
    simulation.run_up_to(TRAIN.name)
    (attempt,) = simulation.running
    wait = Waiting(reason, FULL, simulation.now, grace_s=grace_s, timeout_s=timeout_s)
    simulation.see(replace(attempt, waiting=wait))
    return simulation


def run_on(simulation: Simulation) -> None:
    """The attempt gets what it waited for."""
    (attempt,) = simulation.running
    simulation.see(replace(attempt, waiting=None))


def test_every_condition_says_why_the_job_waits_and_what_to_do() -> None:
    simulation = waiting()

    decision = simulation.step()

    assert decision.actions == ()
    for type_ in ("Trained", "Ready", "Complete", "Failed"):
        assert simulation.condition(type_).status == "False"
        assert simulation.condition(type_).reason == Reason.UNSCHEDULABLE
        assert simulation.condition(type_).message == FULL
    assert simulation.condition("Reconciling").status == "True"
    assert decision.status.progress is not None
    assert decision.status.progress.message == FULL


def test_a_wait_is_told_after_its_grace_and_looked_at_then() -> None:
    simulation = waiting(grace_s=3)

    before = simulation.step()
    simulation.pass_time(3)
    simulation.step()

    assert before.wake_at == simulation.now
    assert before.status.conditions[-1].reason == Reason.RUNNING
    assert simulation.condition("Ready").reason == Reason.UNSCHEDULABLE


def test_a_wait_that_is_over_leaves_no_trace() -> None:
    simulation = waiting()
    simulation.step()

    run_on(simulation)
    simulation.step()

    assert simulation.condition("Ready").reason == Reason.RUNNING
    assert simulation.stage(TRAIN.name).message == ""


def test_a_wait_without_end_is_no_failure() -> None:
    simulation = waiting()

    simulation.step()
    simulation.pass_time(1_000_000)
    decision = simulation.step()

    assert decision.wake_at is None
    assert decision.status.phase == TRAIN.phase


@pytest.mark.parametrize("timeout_s", [0, 600])
def test_a_hopeless_wait_fails_the_job_and_ends_the_attempt(timeout_s: float) -> None:
    simulation = waiting(Reason.IMAGE_PULL_FAILED, timeout_s=timeout_s)
    since = simulation.now

    decision = simulation.step()
    while decision.wake_at is not None:
        simulation.now = decision.wake_at
        decision = simulation.step()

    assert decision.status.phase == Phase.FAILED
    assert [type(action) for action in decision.actions] == [Stop]
    assert simulation.now - since == timedelta(seconds=timeout_s)
    for type_ in ("Failed", "Stalled"):
        assert simulation.condition(type_).status == "True"
        assert simulation.condition(type_).reason == Reason.IMAGE_PULL_FAILED
    assert simulation.stage(TRAIN.name).state == "Failed"
    assert simulation.stage(TRAIN.name).message == FULL


def test_a_deadline_ends_a_wait_with_the_reason_for_waiting() -> None:
    simulation = waiting(activeDeadlineSeconds=60)
    simulation.step()

    simulation.pass_time(60)
    decision = simulation.step()

    failed = simulation.condition("Failed")
    assert [type(action) for action in decision.actions] == [Stop]
    assert (failed.status, failed.reason) == ("True", Reason.UNSCHEDULABLE)
    assert failed.message == f"activeDeadlineSeconds: 60 is over; {FULL}"


@pytest.mark.parametrize("reason", [Reason.PREEMPTED, Reason.NODE_LOST, Reason.POD_DELETED])
def test_what_the_cluster_took_away_is_tried_again_and_never_counted(reason: Reason) -> None:
    simulation = waiting(backoffLimit=0)

    run_on(simulation)
    simulation.end(cause=reason)
    simulation.step()

    assert simulation.started[-1].attempt == 2
    assert simulation.stage(TRAIN.name).failures == 0
    assert simulation.status is not None
    assert simulation.status.attempts[-2].reason == reason


def test_a_lost_node_is_remembered_when_its_pod_is_gone() -> None:
    simulation = waiting(Reason.NODE_LOST)
    simulation.step()

    simulation.end(cause=Reason.PREEMPTED)
    simulation.step()

    assert simulation.status is not None
    assert simulation.status.attempts[-2].reason == Reason.NODE_LOST


def test_a_suspended_job_stops_an_attempt_that_waits() -> None:
    simulation = waiting()
    simulation.step()

    simulation.plan = a_plan(suspend=True)
    decision = simulation.step()

    assert [type(action) for action in decision.actions] == [Stop]
    assert decision.status.phase == Phase.SUSPENDED


def in_queue(reason: Reason = Reason.WAITING_FOR_QUOTA, **spec: Any) -> Simulation:
    """A job whose training waits in a queue from now on."""
    simulation = waiting(reason, **spec)
    (attempt,) = simulation.running
    assert attempt.waiting is not None
    simulation.see(replace(attempt, waiting=replace(attempt.waiting, in_queue=True, recheck_s=60)))
    return simulation


def test_nothing_of_a_job_in_a_queue_is_said_to_run() -> None:
    simulation = in_queue()

    decision = simulation.step()

    assert decision.status.phase == Phase.QUEUED
    assert simulation.stage(TRAIN.name).state == "Waiting"
    assert decision.status.attempts[-1].reason == Reason.WAITING_FOR_QUOTA
    assert Reason.RUNNING not in {each.reason for each in decision.status.conditions}
    assert simulation.condition("Reconciling").status == "True"


def test_a_job_that_leaves_its_queue_is_in_the_phase_of_its_stage() -> None:
    simulation = in_queue()
    simulation.step()

    run_on(simulation)
    decision = simulation.step()

    assert decision.status.phase == TRAIN.phase
    assert simulation.stage(TRAIN.name).state == "Running"
    assert decision.status.attempts[-1].reason == Reason.RUNNING


def test_what_a_queue_preempts_starts_again_as_the_same_attempt() -> None:
    simulation = in_queue(Reason.PREEMPTED, backoffLimit=0)
    (attempt,) = simulation.running
    old = Progress(stage="train", step=9, total_steps=10, eta_seconds=5, last_update_time=START)
    simulation.see(replace(attempt, progress=old))

    queued = simulation.step()
    simulation.pass_time(1000)
    run_on(simulation)
    going = simulation.step()

    assert queued.status.phase == Phase.QUEUED
    assert queued.status.progress is not None
    assert queued.status.progress.eta_seconds is None
    assert queued.status.progress.message == FULL
    assert going.actions == ()
    assert going.status.phase == TRAIN.phase
    assert simulation.stage(TRAIN.name).attempt == 1
    assert simulation.stage(TRAIN.name).failures == 0


@pytest.mark.parametrize(("lasted", "after"), [(0, 1), (7, 7), (1000, 60)])
def test_a_wait_of_which_nobody_tells_is_looked_at_less_and_less_often(
    lasted: float, after: float
) -> None:
    simulation = in_queue()

    simulation.pass_time(lasted)
    decision = simulation.step()

    assert decision.wake_at == simulation.now + timedelta(seconds=after)
