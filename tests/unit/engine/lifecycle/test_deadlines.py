"""The limits of time that a job sets: on its work, on its waits, on its rest after the end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from theatre import START, Theatre, a_plan
from tunesmith_api.finetunejob.status import Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Stop, Waiting
from tunesmith_engine.stages.catalog import TRAIN, VERIFY


def playing(**spec: Any) -> Theatre:
    """A job whose training has just been started, at the moment of its own start."""
    theatre = Theatre(a_plan(**spec))
    theatre.play_up_to(TRAIN.name)
    assert theatre.now == START
    return theatre


def wait_for(theatre: Theatre, reason: Reason | None, *, in_queue: bool = False) -> None:
    """From now on the running attempt waits for this; None: it has begun."""
    (attempt,) = theatre.running
    if reason is None:
        now = theatre.now
        theatre.see(replace(attempt, waiting=None, began=now, admitted=now))
        return
    waiting = Waiting(reason, f"{reason} it is", theatre.now, grace_s=0, in_queue=in_queue)
    theatre.see(replace(attempt, waiting=waiting, began=None))


@pytest.mark.parametrize("in_queue", [True, False])
def test_a_stage_that_waits_too_long_fails_with_what_it_waited_for(*, in_queue: bool) -> None:
    theatre = playing(preRunningDeadlineSeconds=60)
    wait_for(theatre, Reason.WAITING_FOR_QUOTA, in_queue=in_queue)
    started = theatre.now

    decision = theatre.step()
    while decision.status.phase != Phase.FAILED:
        assert decision.wake_at is not None
        theatre.now = decision.wake_at
        decision = theatre.step()

    assert theatre.now - started == timedelta(seconds=60)
    assert [type(each) for each in decision.actions] == [Stop]
    assert theatre.condition("Failed").reason == Reason.WAITING_FOR_QUOTA
    assert theatre.condition("Failed").message == (
        "preRunningDeadlineSeconds: 60 is over; WaitingForQuota it is"
    )


def test_queue_node_and_image_are_waited_for_within_one_limit() -> None:
    theatre = playing(preRunningDeadlineSeconds=60)

    for reason in (Reason.WAITING_FOR_QUOTA, Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED):
        wait_for(theatre, reason, in_queue=reason is Reason.WAITING_FOR_QUOTA)
        theatre.pass_time(29)
        theatre.step()

    assert theatre.condition("Failed").reason == Reason.IMAGE_PULL_FAILED


def test_a_stage_that_runs_has_not_waited_too_long_however_long_it_runs() -> None:
    theatre = playing(preRunningDeadlineSeconds=60)
    wait_for(theatre, Reason.UNSCHEDULABLE)
    theatre.pass_time(50)
    theatre.step()

    wait_for(theatre, None)
    theatre.pass_time(5000)
    decision = theatre.step()

    assert decision.status.phase == TRAIN.phase


def test_a_stage_that_is_put_back_into_its_queue_waits_anew() -> None:
    theatre = playing(preRunningDeadlineSeconds=60)
    wait_for(theatre, None)
    theatre.pass_time(5000)
    theatre.step()

    wait_for(theatre, Reason.PREEMPTED, in_queue=True)
    early = theatre.step()
    theatre.pass_time(60)
    late = theatre.step()

    assert early.status.phase == Phase.QUEUED
    assert late.status.phase == Phase.FAILED


def test_a_pod_that_is_taken_off_its_node_waits_for_nothing() -> None:
    theatre = playing(preRunningDeadlineSeconds=5)
    wait_for(theatre, None)
    theatre.pass_time(100)
    theatre.step()

    wait_for(theatre, Reason.PREEMPTED)
    theatre.pass_time(30)
    decision = theatre.step()

    assert decision.status.phase == TRAIN.phase
    assert theatre.condition("Ready").reason == Reason.PREEMPTED


def test_each_stage_may_wait_as_long_as_the_others() -> None:
    theatre = playing(preRunningDeadlineSeconds=60)
    for _ in range(3):
        wait_for(theatre, Reason.UNSCHEDULABLE)
        theatre.pass_time(59)
        theatre.step()
        wait_for(theatre, None)
        theatre.step()
        theatre.finish()
        decision = theatre.step()

    assert decision.status.phase == VERIFY.phase


def test_time_in_a_queue_uses_up_no_deadline_of_the_job() -> None:
    theatre = playing(activeDeadlineSeconds=100)
    theatre.pass_time(10)
    wait_for(theatre, Reason.PREEMPTED, in_queue=True)
    queued = theatre.step()
    theatre.pass_time(10_000)
    later = theatre.step()

    wait_for(theatre, None)
    going = theatre.step()
    assert going.wake_at is not None
    theatre.now = going.wake_at
    over = theatre.step()

    assert queued.wake_at is None
    assert later.status.phase == Phase.QUEUED
    assert going.status.phase == TRAIN.phase
    assert theatre.now - START == timedelta(seconds=10_000 + 100)
    assert [type(each) for each in over.actions] == [Stop]
    assert theatre.stage(TRAIN.name).reason == Reason.DEADLINE_EXCEEDED


def test_time_without_a_node_does_use_up_the_deadline_of_the_job() -> None:
    theatre = playing(activeDeadlineSeconds=100)
    wait_for(theatre, Reason.UNSCHEDULABLE)
    theatre.pass_time(100)

    decision = theatre.step()

    assert decision.status.phase == Phase.FAILED
    assert theatre.condition("Failed").reason == Reason.UNSCHEDULABLE


@pytest.mark.parametrize("seconds", [0, 600])
@pytest.mark.parametrize("fails", [True, False])
def test_a_job_that_is_over_expires_when_it_says_so(seconds: int, *, fails: bool) -> None:
    theatre = playing(ttlSecondsAfterFinished=seconds)
    if fails:
        theatre.refuse(Reason.LOSS_DIVERGED)
    theatre.play(lambda each: each.status is not None and each.status.is_finished)
    ended = theatre.now

    decision = theatre.step()
    if seconds:
        assert not decision.is_expired
        assert decision.wake_at == ended + timedelta(seconds=seconds)
        theatre.now = decision.wake_at
        decision = theatre.step()

    assert decision.is_expired
    assert decision.wake_at is None


def test_a_job_is_forgotten_only_when_nothing_of_it_runs() -> None:
    theatre = playing(ttlSecondsAfterFinished=0, preRunningDeadlineSeconds=1)
    wait_for(theatre, Reason.UNSCHEDULABLE)
    theatre.pass_time(1)
    theatre.status = theatre.decide().status

    still_running = theatre.step()
    theatre.end()
    over = theatre.step()

    assert [type(each) for each in still_running.actions] == [Stop]
    assert not still_running.is_expired
    assert over.is_expired


def test_a_job_is_kept_for_ever_unless_it_says_otherwise() -> None:
    theatre = playing()
    theatre.play(lambda each: each.status is not None and each.status.is_finished)
    theatre.pass_time(1e9)

    decision = theatre.step()

    assert not decision.is_expired
    assert decision.wake_at is None


def test_a_suspended_job_never_expires() -> None:
    theatre = Theatre(a_plan(ttlSecondsAfterFinished=0, suspend=True))
    decision = theatre.step()

    assert not decision.is_expired
    assert theatre.status is not None
    assert theatre.status.phase == Phase.SUSPENDED
