"""An attempt that was started and does no work: what the status says, and when it is given up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from theatre import START, Theatre, a_plan
from tunesmith_api.finetunejob.status import Phase, Progress
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Stop, Waiting
from tunesmith_engine.stages.catalog import TRAIN

FULL = "train fits on no node: 3 Insufficient nvidia.com/gpu. Ask for less"


def waiting(
    reason: Reason = Reason.UNSCHEDULABLE,
    *,
    grace_s: float = 0,
    patience_s: float | None = None,
    **spec: Any,
) -> Theatre:
    """A job whose training has been started, and waits from now on."""
    theatre = Theatre(a_plan(**spec))
    theatre.play_up_to(TRAIN.name)
    (attempt,) = theatre.running
    wait = Waiting(reason, FULL, theatre.now, grace_s=grace_s, patience_s=patience_s)
    theatre.see(replace(attempt, waiting=wait))
    return theatre


def run_on(theatre: Theatre) -> None:
    """The attempt gets what it waited for."""
    (attempt,) = theatre.running
    theatre.see(replace(attempt, waiting=None))


def test_every_condition_says_why_the_job_waits_and_what_to_do() -> None:
    theatre = waiting()

    decision = theatre.step()

    assert decision.actions == ()
    for type_ in ("Trained", "Ready", "Complete", "Failed"):
        assert theatre.condition(type_).status == "False"
        assert theatre.condition(type_).reason == Reason.UNSCHEDULABLE
        assert theatre.condition(type_).message == FULL
    assert theatre.condition("Reconciling").status == "True"
    assert decision.status.progress is not None
    assert decision.status.progress.message == FULL


def test_a_wait_is_told_after_its_grace_and_looked_at_then() -> None:
    theatre = waiting(grace_s=3)

    before = theatre.step()
    theatre.pass_time(3)
    theatre.step()

    assert before.wake_at == theatre.now
    assert before.status.conditions[-1].reason == Reason.RUNNING
    assert theatre.condition("Ready").reason == Reason.UNSCHEDULABLE


def test_a_wait_that_is_over_leaves_no_trace() -> None:
    theatre = waiting()
    theatre.step()

    run_on(theatre)
    theatre.step()

    assert theatre.condition("Ready").reason == Reason.RUNNING
    assert theatre.stage(TRAIN.name).message == ""


def test_a_wait_without_end_is_no_failure() -> None:
    theatre = waiting()

    theatre.step()
    theatre.pass_time(1_000_000)
    decision = theatre.step()

    assert decision.wake_at is None
    assert decision.status.phase == TRAIN.phase


@pytest.mark.parametrize("patience_s", [0, 600])
def test_a_hopeless_wait_fails_the_job_and_ends_the_attempt(patience_s: float) -> None:
    theatre = waiting(Reason.IMAGE_PULL_FAILED, patience_s=patience_s)
    since = theatre.now

    decision = theatre.step()
    while decision.wake_at is not None:
        theatre.now = decision.wake_at
        decision = theatre.step()

    assert decision.status.phase == Phase.FAILED
    assert [type(action) for action in decision.actions] == [Stop]
    assert theatre.now - since == timedelta(seconds=patience_s)
    for type_ in ("Failed", "Stalled"):
        assert theatre.condition(type_).status == "True"
        assert theatre.condition(type_).reason == Reason.IMAGE_PULL_FAILED
    assert theatre.stage(TRAIN.name).state == "Failed"
    assert theatre.stage(TRAIN.name).message == FULL


def test_a_deadline_ends_a_wait_with_the_reason_for_waiting() -> None:
    theatre = waiting(activeDeadlineSeconds=60)
    theatre.step()

    theatre.pass_time(60)
    decision = theatre.step()

    failed = theatre.condition("Failed")
    assert [type(action) for action in decision.actions] == [Stop]
    assert (failed.status, failed.reason) == ("True", Reason.UNSCHEDULABLE)
    assert failed.message == f"activeDeadlineSeconds: 60 is over; {FULL}"


@pytest.mark.parametrize("reason", [Reason.PREEMPTED, Reason.NODE_LOST, Reason.POD_DELETED])
def test_what_the_cluster_took_away_is_tried_again_and_never_counted(reason: Reason) -> None:
    theatre = waiting(backoffLimit=0)

    run_on(theatre)
    theatre.end(cause=reason)
    theatre.step()

    assert theatre.started[-1].attempt == 2
    assert theatre.stage(TRAIN.name).failures == 0
    assert theatre.status is not None
    assert theatre.status.attempts[-2].reason == reason


def test_a_lost_node_is_remembered_when_its_pod_is_gone() -> None:
    theatre = waiting(Reason.NODE_LOST)
    theatre.step()

    theatre.end(cause=Reason.PREEMPTED)
    theatre.step()

    assert theatre.status is not None
    assert theatre.status.attempts[-2].reason == Reason.NODE_LOST


def test_a_suspended_job_stops_an_attempt_that_waits() -> None:
    theatre = waiting()
    theatre.step()

    theatre.plan = a_plan(suspend=True)
    decision = theatre.step()

    assert [type(action) for action in decision.actions] == [Stop]
    assert decision.status.phase == Phase.SUSPENDED


def in_queue(reason: Reason = Reason.WAITING_FOR_QUOTA, **spec: Any) -> Theatre:
    """A job whose training waits in a queue from now on."""
    theatre = waiting(reason, **spec)
    (attempt,) = theatre.running
    assert attempt.waiting is not None
    theatre.see(replace(attempt, waiting=replace(attempt.waiting, in_queue=True, again_s=60)))
    return theatre


def test_nothing_of_a_job_in_a_queue_is_said_to_run() -> None:
    theatre = in_queue()

    decision = theatre.step()

    assert decision.status.phase == Phase.QUEUED
    assert theatre.stage(TRAIN.name).state == "Waiting"
    assert decision.status.attempts[-1].reason == Reason.WAITING_FOR_QUOTA
    assert Reason.RUNNING not in {each.reason for each in decision.status.conditions}
    assert theatre.condition("Reconciling").status == "True"


def test_a_job_that_leaves_its_queue_is_in_the_phase_of_its_stage() -> None:
    theatre = in_queue()
    theatre.step()

    run_on(theatre)
    decision = theatre.step()

    assert decision.status.phase == TRAIN.phase
    assert theatre.stage(TRAIN.name).state == "Running"
    assert decision.status.attempts[-1].reason == Reason.RUNNING


def test_what_a_queue_preempts_starts_again_as_the_same_attempt() -> None:
    theatre = in_queue(Reason.PREEMPTED, backoffLimit=0)
    (attempt,) = theatre.running
    old = Progress(stage="train", step=9, total_steps=10, eta_seconds=5, last_update_time=START)
    theatre.see(replace(attempt, progress=old))

    queued = theatre.step()
    theatre.pass_time(1000)
    run_on(theatre)
    going = theatre.step()

    assert queued.status.phase == Phase.QUEUED
    assert queued.status.progress is not None
    assert queued.status.progress.eta_seconds is None
    assert queued.status.progress.message == FULL
    assert going.actions == ()
    assert going.status.phase == TRAIN.phase
    assert theatre.stage(TRAIN.name).attempt == 1
    assert theatre.stage(TRAIN.name).failures == 0


@pytest.mark.parametrize(("lasted", "after"), [(0, 1), (7, 7), (1000, 60)])
def test_a_wait_of_which_nobody_tells_is_looked_at_less_and_less_often(
    lasted: float, after: float
) -> None:
    theatre = in_queue()

    theatre.pass_time(lasted)
    decision = theatre.step()

    assert decision.wake_at == theatre.now + timedelta(seconds=after)
