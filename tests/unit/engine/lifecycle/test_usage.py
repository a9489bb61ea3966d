"""The seconds that a job waited and its accelerators worked: true, and never taken back."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theatre import START, Theatre, a_plan
from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import AttemptSeen, Waiting
from tunesmith_engine.stages.catalog import TRAIN

KINDS = ("queue", "node", "work")
GPUS: dict[str, Any] = {"resources": {"workers": 2, "gpusPerWorker": 2}}


def training(**spec: Any) -> Theatre:
    """A job on four accelerators whose training has just been started."""
    theatre = Theatre(a_plan(**GPUS, **spec))
    theatre.play_up_to(TRAIN.name)
    assert theatre.now == START
    return theatre


def wait(
    theatre: Theatre, reason: Reason = Reason.UNSCHEDULABLE, *, in_queue: bool = False
) -> None:
    """The running attempt waits from now on; one that leaves a queue does so now."""
    (attempt,) = theatre.running
    before = attempt.waiting
    goes_on = before is not None and before.in_queue is in_queue
    since = before.since if before is not None and goes_on else theatre.now
    left = before is not None and before.in_queue and not in_queue
    admitted = theatre.now if left else attempt.admitted
    waiting = Waiting(reason, "for it", since, grace_s=0, in_queue=in_queue)
    theatre.see(replace(attempt, waiting=waiting, began=None, admitted=admitted))


def work(theatre: Theatre, *, ago: float = 0) -> None:
    """The running attempt works, and has left its queue, if it was in one, as it began."""
    (attempt,) = theatre.running
    if attempt.began is not None:
        return
    began = theatre.now - timedelta(seconds=ago)
    was_queued = attempt.waiting is not None and attempt.waiting.in_queue
    admitted = began if was_queued else attempt.admitted
    theatre.see(replace(attempt, waiting=None, began=began, admitted=admitted))


def finish(theatre: Theatre) -> None:
    """The running attempt succeeds now, however late that is seen."""
    (attempt,) = theatre.running
    theatre.see(replace(attempt, ended=theatre.now))
    theatre.finish()


def status_of(theatre: Theatre) -> FineTuneJobStatus:
    assert theatre.status is not None
    return theatre.status


def attempt_of(theatre: Theatre) -> Attempt:
    """The latest attempt of training."""
    return next(each for each in reversed(status_of(theatre).attempts) if each.stage == "train")


def test_a_wait_is_queued_and_work_is_counted_for_each_accelerator() -> None:
    theatre = training()
    wait(theatre)
    theatre.pass_time(100)
    work(theatre)
    theatre.pass_time(50)
    finish(theatre)
    theatre.pass_time(7)
    theatre.step()

    assert (attempt_of(theatre).queued_seconds, attempt_of(theatre).running_seconds) == (100, 50)
    assert attempt_of(theatre).accelerators == 4
    assert status_of(theatre).gpu_seconds == 4 * 50
    assert status_of(theatre).queued_seconds == 100


def test_a_stage_without_accelerators_uses_none() -> None:
    theatre = Theatre(a_plan(**GPUS))
    theatre.step()
    theatre.pass_time(100)
    theatre.step()

    assert status_of(theatre).gpu_seconds == 0


def test_what_is_on_this_machine_works_from_its_start() -> None:
    theatre = training()
    theatre.pass_time(20)
    theatre.finish()
    theatre.step()

    assert (attempt_of(theatre).queued_seconds, attempt_of(theatre).running_seconds) == (0, 20)


def test_what_never_ran_was_queued_to_its_end() -> None:
    theatre = training()
    theatre.pass_time(30)
    theatre.end(cause=Reason.POD_DELETED, ended=theatre.now - timedelta(seconds=10))
    theatre.step()

    ended = next(each for each in status_of(theatre).attempts if each.stage == "train")
    assert (ended.queued_seconds, ended.running_seconds) == (20, 0)


def test_time_in_a_queue_is_held_and_time_for_a_node_is_not() -> None:
    theatre = training()
    wait(theatre, Reason.WAITING_FOR_QUOTA, in_queue=True)
    theatre.pass_time(60)
    theatre.step()
    wait(theatre)
    theatre.pass_time(5)
    work(theatre)
    theatre.step()

    assert attempt_of(theatre).queue_held_seconds == 60
    assert attempt_of(theatre).queued_seconds == 65


def test_a_queue_that_was_left_while_nobody_looked_is_counted_to_the_admission() -> None:
    theatre = training()
    wait(theatre, Reason.WAITING_FOR_QUOTA, in_queue=True)
    theatre.pass_time(1)
    theatre.step()
    theatre.pass_time(100)
    work(theatre, ago=40)
    theatre.step()

    assert attempt_of(theatre).queue_held_seconds == 61
    assert attempt_of(theatre).running_seconds == 40


def test_what_a_queue_takes_back_stops_to_work_when_it_was_suspended() -> None:
    theatre = training()
    work(theatre)
    theatre.pass_time(30)
    theatre.step()
    theatre.pass_time(10)
    wait(theatre, Reason.PREEMPTED, in_queue=True)
    theatre.pass_time(5)
    theatre.step()

    assert attempt_of(theatre).running_seconds == 40
    assert attempt_of(theatre).queue_held_seconds == 5
    assert status_of(theatre).gpu_seconds == 4 * 40


def test_a_place_that_was_taken_and_given_back_while_nobody_looked_counts_as_held() -> None:
    """From when on it was held, nobody knows: no accelerator is counted, and it waits anew."""
    theatre = training(preRunningDeadlineSeconds=60)
    work(theatre)
    theatre.pass_time(500)
    theatre.step()
    theatre.pass_time(1000)
    wait(theatre, Reason.WAITING_FOR_QUOTA, in_queue=True)
    wait(theatre)
    theatre.pass_time(50)
    theatre.step()
    early = status_of(theatre)
    theatre.pass_time(11)
    late = theatre.step().status

    assert early.gpu_seconds == 4 * 500
    assert attempt_of(theatre).queue_held_seconds == 1000
    assert (early.phase, late.phase) == (TRAIN.phase, Phase.FAILED)


def test_a_second_attempt_is_added_to_the_first() -> None:
    theatre = training()
    theatre.pass_time(10)
    theatre.end(cause=Reason.PREEMPTED)
    theatre.step()
    theatre.pass_time(20)
    theatre.finish()
    theatre.step()

    assert status_of(theatre).gpu_seconds == 4 * 30


def test_what_a_job_used_is_not_forgotten_when_it_begins_anew() -> None:
    theatre = training()
    theatre.pass_time(10)
    theatre.finish()
    theatre.step()
    theatre.plan = a_plan(data="other", generation=2, **GPUS)
    theatre.latest.clear()
    theatre.step()

    assert status_of(theatre).attempts[0].stage == "prepare"
    assert status_of(theatre).gpu_seconds == 4 * 10


@pytest.mark.parametrize("back", [1, 1000])
def test_a_clock_that_is_set_back_takes_nothing_away(back: float) -> None:
    theatre = training()
    theatre.pass_time(100)
    wait(theatre)
    theatre.step()
    theatre.pass_time(-back)
    work(theatre)
    theatre.step()

    assert attempt_of(theatre).queued_seconds >= 0
    assert status_of(theatre).queued_seconds + status_of(theatre).gpu_seconds / 4 == 100


def test_that_time_passes_is_no_news() -> None:
    theatre = training()
    work(theatre)
    theatre.step()
    before = theatre.status
    theatre.pass_time(1000)

    assert theatre.step().status == before


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of an attempt's life: how long it lasts, what it is, how often the operator looks."""

    seconds: int
    kind: str
    looks: int


TURNS = st.lists(
    st.builds(
        Turn,
        seconds=st.integers(1, 500),
        kind=st.sampled_from(KINDS),
        looks=st.integers(1, 3),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(turns=TURNS)
def test_in_any_life_that_is_looked_at_every_second_is_counted_once_and_for_what_it_was(
    turns: list[Turn],
) -> None:
    theatre = training()
    gpu, queued = 0.0, 0.0
    for turn in turns:
        if turn.kind == "work":
            work(theatre)
        else:
            wait(theatre, in_queue=turn.kind == "queue")
        for _ in range(turn.looks):
            theatre.step()
            theatre.pass_time(turn.seconds / turn.looks)
            assert status_of(theatre).gpu_seconds >= gpu
            assert status_of(theatre).queued_seconds >= queued
            gpu, queued = status_of(theatre).gpu_seconds, status_of(theatre).queued_seconds
        theatre.status = reread(status_of(theatre))
    theatre.step()
    finish(theatre)
    theatre.step()

    spent = {kind: sum(each.seconds for each in turns if each.kind == kind) for kind in KINDS}
    assert status_of(theatre).gpu_seconds == pytest.approx(4 * spent["work"], abs=0.1)
    assert status_of(theatre).queued_seconds == pytest.approx(
        spent["queue"] + spent["node"], abs=0.1
    )
    assert attempt_of(theatre).queue_held_seconds == pytest.approx(spent["queue"], abs=0.1)


def reread(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """What another operator finds in the API server."""
    return FineTuneJobStatus.model_validate_json(status.model_dump_json(by_alias=True))


def test_an_attempt_that_is_not_seen_is_not_counted() -> None:
    theatre = training()
    theatre.latest.clear()
    theatre.pass_time(100)
    theatre.step()

    assert status_of(theatre).gpu_seconds == 0


def test_only_the_open_attempt_is_counted() -> None:
    theatre = training()
    (attempt,) = theatre.running
    other = AttemptSeen(attempt.stage, attempt.key, 7, is_running=False)
    theatre.see(other)
    theatre.pass_time(100)
    theatre.step()

    assert status_of(theatre).gpu_seconds == 0
