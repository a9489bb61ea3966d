"""Suspension, Ctrl-C, deadlines, and attempts that nobody asked for."""

from dataclasses import replace
from typing import Any

import pytest

from theatre import Theatre, a_plan, a_result, is_at_rest
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import AttemptSeen, Start, Stop
from tunesmith_engine.stages.catalog import EVALUATE, PREPARE, TRAIN


def training(**spec: Any) -> Theatre:
    theatre = Theatre(a_plan(**spec))
    theatre.play_up_to(TRAIN.name)
    return theatre


def hold(theatre: Theatre, reason: Reason) -> None:
    if reason is Reason.SUSPENDED:
        theatre.plan = a_plan(suspend=True)
    else:
        theatre.stop_asked = True


def release(theatre: Theatre) -> None:
    theatre.plan = a_plan()
    theatre.stop_asked = False


def status_of(theatre: Theatre) -> FineTuneJobStatus:
    assert theatre.status is not None
    return theatre.status


HOLDS = pytest.mark.parametrize("reason", [Reason.SUSPENDED, Reason.INTERRUPTED])


@HOLDS
def test_a_held_job_stops_its_attempt_and_comes_to_rest(reason: Reason) -> None:
    theatre = training()
    hold(theatre, reason)

    stopping = theatre.step()
    is_still_busy = not is_at_rest(status_of(theatre))
    theatre.end(exit_code=-15)
    theatre.step()

    assert [(each.stage, each.because) for each in stopping.actions if isinstance(each, Stop)] == [
        (TRAIN.name, reason)
    ]
    assert is_still_busy
    assert is_at_rest(status_of(theatre))
    assert status_of(theatre).phase == Phase.SUSPENDED
    assert theatre.condition("Suspended").reason == reason
    assert theatre.condition("Reconciling").status == "False"
    assert theatre.stage(TRAIN.name).failures == 0


@HOLDS
def test_a_held_job_goes_on_with_the_next_attempt(reason: Reason) -> None:
    theatre = training()
    hold(theatre, reason)
    theatre.step()
    theatre.end(exit_code=-15)
    theatre.step()
    release(theatre)

    theatre.step()

    assert theatre.started[-1].stage == TRAIN.name
    assert theatre.started[-1].attempt == 2
    assert theatre.condition("Suspended").status == "False"


@HOLDS
def test_a_stage_that_finishes_while_it_is_stopped_is_done(reason: Reason) -> None:
    theatre = training()
    hold(theatre, reason)
    theatre.step()
    theatre.finish()

    theatre.step()

    assert theatre.stage(TRAIN.name).state == "Succeeded"
    assert is_at_rest(status_of(theatre))


def test_a_verdict_given_while_the_stage_is_stopped_counts() -> None:
    theatre = training()
    theatre.stop_asked = True
    theatre.step()
    theatre.refuse(Reason.LOSS_DIVERGED)

    theatre.step()

    assert status_of(theatre).phase == Phase.FAILED


def test_an_attempt_told_to_stop_is_not_taken_back_when_the_hold_ends() -> None:
    theatre = training()
    theatre.stop_asked = True
    theatre.step()
    theatre.stop_asked = False

    decision = theatre.step()
    theatre.end(exit_code=-15)
    theatre.step()

    assert [type(action) for action in decision.actions] == [Stop]
    assert theatre.started[-1].attempt == 2
    assert theatre.stage(TRAIN.name).failures == 0


def test_a_job_suspended_from_the_start_starts_nothing() -> None:
    theatre = Theatre(a_plan(suspend=True))

    theatre.step()

    assert theatre.started == []
    assert status_of(theatre).start_time is None
    assert is_at_rest(status_of(theatre))


def test_a_job_past_its_deadline_stops_and_then_fails() -> None:
    theatre = training(activeDeadlineSeconds=100)

    theatre.pass_time(100)
    stopping = theatre.step()
    is_failed_yet = status_of(theatre).is_finished
    theatre.end(exit_code=-15)
    theatre.step()

    assert [each.because for each in stopping.actions if isinstance(each, Stop)] == [
        "DeadlineExceeded"
    ]
    assert not is_failed_yet
    assert status_of(theatre).phase == Phase.FAILED
    assert theatre.condition("Failed").reason == Reason.DEADLINE_EXCEEDED
    assert theatre.condition("Trained").reason == Reason.DEADLINE_EXCEEDED


def test_a_job_with_a_deadline_is_looked_at_when_it_passes() -> None:
    theatre = Theatre(a_plan(activeDeadlineSeconds=100))

    decision = theatre.step()

    assert decision.wake_at is not None
    assert (decision.wake_at - theatre.now).total_seconds() == 100


def test_time_in_suspension_does_not_count_towards_the_deadline() -> None:
    theatre = training(activeDeadlineSeconds=100)
    theatre.stop_asked = True
    theatre.step()
    theatre.end(exit_code=-15)
    theatre.step()
    theatre.pass_time(1000)
    theatre.stop_asked = False

    theatre.step()

    assert status_of(theatre).phase == TRAIN.phase
    assert status_of(theatre).start_time == theatre.now


def test_a_start_that_was_never_carried_out_is_asked_for_again() -> None:
    theatre = Theatre(a_plan())
    lost = theatre.decide()
    theatre.status = lost.status

    again = theatre.decide()

    assert again.actions == lost.actions
    assert again.status == lost.status


def test_a_start_that_was_never_written_down_is_taken_over() -> None:
    theatre = training()
    theatre.end(exit_code=1)
    theatre.step()
    theatre.pass_time(1)
    theatre.carry_out(theatre.decide())

    theatre.step()

    assert theatre.stage(TRAIN.name).attempt == 2
    assert theatre.stage(TRAIN.name).state == "Running"
    assert len(theatre.running) == 1


def test_an_attempt_with_another_key_is_ended_before_anything_starts() -> None:
    theatre = Theatre(a_plan())
    theatre.see(AttemptSeen(TRAIN.name, "0" * 64, 3, is_running=True))

    first = theatre.step()
    theatre.end(exit_code=-9)
    second = theatre.step()

    assert first.actions == (Stop(TRAIN.name, "0" * 64, 3, "Superseded"),)
    assert [type(action) for action in second.actions] == [Start]


def test_what_a_finished_attempt_leaves_running_is_ended() -> None:
    theatre = training()
    (attempt,) = theatre.running
    theatre.finished[attempt.key] = a_result(attempt)

    decision = theatre.step()
    theatre.end(exit_code=0)
    theatre.step()

    assert decision.actions == (Stop(attempt.stage, attempt.key, 1, "Superseded"),)
    assert theatre.started[-1].stage == EVALUATE.name


def test_a_numbered_attempt_folder_is_never_used_twice() -> None:
    """The executor still has attempt 4 of this key from a life that the status has forgotten."""
    theatre = Theatre(a_plan())
    key = theatre.plan.stage(PREPARE.name).key
    theatre.see(AttemptSeen(PREPARE.name, key, 4, is_running=False))

    theatre.step()

    assert theatre.started[-1].attempt == 5


def test_a_superseding_attempt_waits_until_the_old_one_is_gone() -> None:
    theatre = training()
    theatre.plan = a_plan(data="other")

    waiting = theatre.step()
    theatre.end(exit_code=-15)
    theatre.step()

    assert [type(action) for action in waiting.actions] == [Stop]
    assert theatre.started[-1].stage == PREPARE.name
    assert theatre.started[-1].key == theatre.plan.stage(PREPARE.name).key


def test_a_terminal_job_ends_what_still_runs() -> None:
    theatre = training()
    theatre.refuse(Reason.LOSS_DIVERGED)
    theatre.step()
    train = theatre.plan.stage(TRAIN.name)
    theatre.see(replace(theatre.latest[train.name, train.key], is_running=True))

    decision = theatre.step()

    assert [type(action) for action in decision.actions] == [Stop]
