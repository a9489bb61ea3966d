"""The seconds that a job waited and its accelerators worked: true, and never taken back."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import START, Simulation, a_plan
from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import ObservedAttempt, Waiting
from tunesmith_engine.stages.catalog import TRAIN

KINDS = ("queue", "node", "work")
GPUS: dict[str, Any] = {"resources": {"workers": 2, "gpusPerWorker": 2}}


def training(**spec: Any) -> Simulation:
    """A job on four accelerators whose training has just been started."""
    simulation = Simulation(a_plan(**GPUS, **spec))
    simulation.run_up_to(TRAIN.name)
    assert simulation.now == START
    return simulation


def wait(
    simulation: Simulation, reason: Reason = Reason.UNSCHEDULABLE, *, in_queue: bool = False
) -> None:
    """The running attempt waits from now on; one that leaves a queue does so now."""
    (attempt,) = simulation.running
    before = attempt.waiting
    goes_on = before is not None and before.in_queue is in_queue
    since = before.since if before is not None and goes_on else simulation.now
    left = before is not None and before.in_queue and not in_queue
    admitted = simulation.now if left else attempt.admitted
    waiting = Waiting(reason, "for it", since, grace_s=0, in_queue=in_queue)
    simulation.see(replace(attempt, waiting=waiting, began=None, admitted=admitted))


def work(simulation: Simulation, *, ago: float = 0) -> None:
    """The running attempt works, and has left its queue, if it was in one, as it began."""
    (attempt,) = simulation.running
    if attempt.began is not None:
        return
    began = simulation.now - timedelta(seconds=ago)
    was_queued = attempt.waiting is not None and attempt.waiting.in_queue
    admitted = began if was_queued else attempt.admitted
    simulation.see(replace(attempt, waiting=None, began=began, admitted=admitted))


def finish(simulation: Simulation) -> None:
    """The running attempt succeeds now, however late that is seen."""
    (attempt,) = simulation.running
    simulation.see(replace(attempt, ended=simulation.now))
    simulation.finish()


def status_of(simulation: Simulation) -> FineTuneJobStatus:
    assert simulation.status is not None
    return simulation.status


def attempt_of(simulation: Simulation) -> Attempt:
    """The latest attempt of training."""
    return next(each for each in reversed(status_of(simulation).attempts) if each.stage == "train")


def test_a_wait_is_queued_and_work_is_counted_for_each_accelerator() -> None:
    simulation = training()
    wait(simulation)
    simulation.pass_time(100)
    work(simulation)
    simulation.pass_time(50)
    finish(simulation)
    simulation.pass_time(7)
    simulation.step()

    assert (attempt_of(simulation).queued_seconds, attempt_of(simulation).running_seconds) == (
        100,
        50,
    )
    assert attempt_of(simulation).accelerators == 4
    assert status_of(simulation).gpu_seconds == 4 * 50
    assert status_of(simulation).queued_seconds == 100


def test_a_stage_without_accelerators_uses_none() -> None:
    simulation = Simulation(a_plan(**GPUS))
    simulation.step()
    simulation.pass_time(100)
    simulation.step()

    assert status_of(simulation).gpu_seconds == 0


def test_what_is_on_this_machine_works_from_its_start() -> None:
    simulation = training()
    simulation.pass_time(20)
    simulation.finish()
    simulation.step()

    assert (attempt_of(simulation).queued_seconds, attempt_of(simulation).running_seconds) == (
        0,
        20,
    )


def test_what_never_ran_was_queued_to_its_end() -> None:
    simulation = training()
    simulation.pass_time(30)
    simulation.end(cause=Reason.POD_DELETED, ended=simulation.now - timedelta(seconds=10))
    simulation.step()

    ended = next(each for each in status_of(simulation).attempts if each.stage == "train")
    assert (ended.queued_seconds, ended.running_seconds) == (20, 0)


def test_time_in_a_queue_is_held_and_time_for_a_node_is_not() -> None:
    simulation = training()
    wait(simulation, Reason.WAITING_FOR_QUOTA, in_queue=True)
    simulation.pass_time(60)
    simulation.step()
    wait(simulation)
    simulation.pass_time(5)
    work(simulation)
    simulation.step()

    assert attempt_of(simulation).queue_held_seconds == 60
    assert attempt_of(simulation).queued_seconds == 65


def test_a_queue_that_was_left_while_nobody_looked_is_counted_to_the_admission() -> None:
    simulation = training()
    wait(simulation, Reason.WAITING_FOR_QUOTA, in_queue=True)
    simulation.pass_time(1)
    simulation.step()
    simulation.pass_time(100)
    work(simulation, ago=40)
    simulation.step()

    assert attempt_of(simulation).queue_held_seconds == 61
    assert attempt_of(simulation).running_seconds == 40


def test_what_a_queue_takes_back_stops_to_work_when_it_was_suspended() -> None:
    simulation = training()
    work(simulation)
    simulation.pass_time(30)
    simulation.step()
    simulation.pass_time(10)
    wait(simulation, Reason.PREEMPTED, in_queue=True)
    simulation.pass_time(5)
    simulation.step()

    assert attempt_of(simulation).running_seconds == 40
    assert attempt_of(simulation).queue_held_seconds == 5
    assert status_of(simulation).gpu_seconds == 4 * 40


def test_a_place_that_was_taken_and_given_back_while_nobody_looked_counts_as_held() -> None:
    """From when on it was held, nobody knows: no accelerator is counted, and it waits anew."""
    simulation = training(preRunningDeadlineSeconds=60)
    work(simulation)
    simulation.pass_time(500)
    simulation.step()
    simulation.pass_time(1000)
    wait(simulation, Reason.WAITING_FOR_QUOTA, in_queue=True)
    wait(simulation)
    simulation.pass_time(50)
    simulation.step()
    early = status_of(simulation)
    simulation.pass_time(11)
    late = simulation.step().status

    assert early.gpu_seconds == 4 * 500
    assert attempt_of(simulation).queue_held_seconds == 1000
    assert (early.phase, late.phase) == (TRAIN.phase, Phase.FAILED)


def test_a_second_attempt_is_added_to_the_first() -> None:
    simulation = training()
    simulation.pass_time(10)
    simulation.end(cause=Reason.PREEMPTED)
    simulation.step()
    simulation.pass_time(20)
    simulation.finish()
    simulation.step()

    assert status_of(simulation).gpu_seconds == 4 * 30


def test_what_a_job_used_is_not_forgotten_when_it_begins_anew() -> None:
    simulation = training()
    simulation.pass_time(10)
    simulation.finish()
    simulation.step()
    simulation.plan = a_plan(data="other", generation=2, **GPUS)
    simulation.latest.clear()
    simulation.step()

    assert status_of(simulation).attempts[0].stage == "prepare"
    assert status_of(simulation).gpu_seconds == 4 * 10


@pytest.mark.parametrize("back", [1, 1000])
def test_a_clock_that_is_set_back_takes_nothing_away(back: float) -> None:
    simulation = training()
    simulation.pass_time(100)
    wait(simulation)
    simulation.step()
    simulation.pass_time(-back)
    work(simulation)
    simulation.step()

    assert attempt_of(simulation).queued_seconds >= 0
    assert status_of(simulation).queued_seconds + status_of(simulation).gpu_seconds / 4 == 100


def test_that_time_passes_is_no_news() -> None:
    simulation = training()
    work(simulation)
    simulation.step()
    before = simulation.status
    simulation.pass_time(1000)

    assert simulation.step().status == before


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of an attempt: how long it lasts, what it is, how often the operator looks."""

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


@settings(max_examples=40)
@given(turns=TURNS)
def test_in_any_run_that_is_looked_at_every_second_is_counted_once_and_for_what_it_was(
    turns: list[Turn],
) -> None:
    simulation = training()
    gpu, queued = 0.0, 0.0
    for turn in turns:
        if turn.kind == "work":
            work(simulation)
        else:
            wait(simulation, in_queue=turn.kind == "queue")
        for _ in range(turn.looks):
            simulation.step()
            simulation.pass_time(turn.seconds / turn.looks)
            assert status_of(simulation).gpu_seconds >= gpu
            assert status_of(simulation).queued_seconds >= queued
            gpu, queued = status_of(simulation).gpu_seconds, status_of(simulation).queued_seconds
        simulation.status = reread(status_of(simulation))
    simulation.step()
    finish(simulation)
    simulation.step()

    spent = {kind: sum(each.seconds for each in turns if each.kind == kind) for kind in KINDS}
    assert status_of(simulation).gpu_seconds == pytest.approx(4 * spent["work"], abs=0.1)
    assert status_of(simulation).queued_seconds == pytest.approx(
        spent["queue"] + spent["node"], abs=0.1
    )
    assert attempt_of(simulation).queue_held_seconds == pytest.approx(spent["queue"], abs=0.1)


def reread(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """What another operator finds in the API server."""
    return FineTuneJobStatus.model_validate_json(status.model_dump_json(by_alias=True))


def test_an_attempt_that_is_not_seen_is_not_counted() -> None:
    simulation = training()
    simulation.latest.clear()
    simulation.pass_time(100)
    simulation.step()

    assert status_of(simulation).gpu_seconds == 0


def test_only_the_open_attempt_is_counted() -> None:
    simulation = training()
    (attempt,) = simulation.running
    other = ObservedAttempt(attempt.stage, attempt.key, 7, is_running=False)
    simulation.see(other)
    simulation.pass_time(100)
    simulation.step()

    assert status_of(simulation).gpu_seconds == 0
