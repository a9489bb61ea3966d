"""When an old status is gone on with, and when a job starts anew."""

from dataclasses import replace
from typing import Any

import pytest

from simulation import Simulation, a_plan
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.job_retry import wants_retry
from tunesmith_engine.lifecycle.runs import is_same_run, of_this_object, pin_keys, rerun
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import CONTRACT


def failed() -> Simulation:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.refuse(Reason.LOSS_DIVERGED)
    simulation.step()
    return simulation


def status_of(simulation: Simulation) -> FineTuneJobStatus:
    assert simulation.status is not None
    return simulation.status


def test_a_job_never_seen_begins_with_nothing_done() -> None:
    status = rerun(a_plan(), None, finished=())

    assert status.phase == Phase.PENDING
    assert [stage.state for stage in status.stages] == ["Pending"] * 6


def test_a_failed_job_run_again_starts_its_next_attempt_with_all_its_retries() -> None:
    simulation = failed()
    simulation.status = rerun(simulation.plan, simulation.status, finished=simulation.finished)

    simulation.step()

    assert simulation.started[-1].stage == TRAIN.name
    assert simulation.started[-1].attempt == 2
    assert simulation.stage(PREPARE.name).cached
    assert simulation.stage(TRAIN.name).failures == 0
    assert simulation.condition("Failed").status == "False"


def test_a_finished_job_run_again_only_looks_and_keeps_its_history() -> None:
    simulation = Simulation(a_plan())
    simulation.run_until(lambda each: status_of(each).is_finished)
    num_started, before = len(simulation.started), status_of(simulation)
    simulation.status = rerun(simulation.plan, simulation.status, finished=simulation.finished)

    simulation.step()

    assert len(simulation.started) == num_started
    assert status_of(simulation).phase == Phase.SUCCEEDED
    assert all(stage.cached for stage in status_of(simulation).stages)
    history = {"start_time", "completion_time", "attempts", "progress"}
    assert status_of(simulation).model_dump(include=history) == before.model_dump(include=history)


def test_a_finished_job_of_which_something_is_lost_begins_a_new_run() -> None:
    simulation = Simulation(a_plan())
    simulation.run_until(lambda each: status_of(each).is_finished)
    del simulation.finished[simulation.plan.stages[-1].key]
    simulation.status = rerun(simulation.plan, simulation.status, finished=simulation.finished)

    simulation.step()

    assert simulation.started[-1].stage == simulation.plan.stages[-1].name
    assert not status_of(simulation).is_finished


def test_what_a_stage_reported_is_noted_for_as_long_as_it_counts() -> None:
    simulation = Simulation(a_plan())
    simulation.run_until(lambda each: status_of(each).is_finished)
    noted = [stage.result_digest for stage in status_of(simulation).stages]
    simulation.status = rerun(simulation.plan, simulation.status, finished=())

    assert noted == [simulation.finished[each.key].digest for each in simulation.plan.stages]
    assert [stage.result_digest for stage in status_of(simulation).stages] == noted

    del simulation.finished[simulation.plan.stages[-1].key]
    simulation.step()
    assert [stage.result_digest for stage in status_of(simulation).stages] == [*noted[:-1], None]


def test_an_interrupted_job_run_again_finds_cached_what_the_first_run_did() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.stop_requested = True
    simulation.step()
    simulation.end(exit_code=-15)
    simulation.step()
    simulation.stop_requested = False
    simulation.status = rerun(simulation.plan, simulation.status, finished=simulation.finished)

    simulation.step()

    assert simulation.stage(PREPARE.name).cached
    assert simulation.stage(TRAIN.name).state == "Running"
    assert simulation.started[-1].attempt == 2


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SUCCEEDED])
@pytest.mark.parametrize(
    ("change", "is_new"),
    [({}, False), ({"generation": 2}, True), ({"data": "other"}, True)],
)
def test_a_final_phase_ends_only_with_another_generation_or_other_keys(
    *, phase: str, change: dict[str, Any], is_new: bool
) -> None:
    simulation = failed()
    simulation.status = status_of(simulation).model_copy(update={"phase": phase})
    simulation.plan = a_plan(**change)

    simulation.step()

    assert (status_of(simulation).phase != phase) == is_new


def test_a_new_generation_with_the_same_keys_does_not_disturb_a_running_job() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.plan = a_plan(generation=2, backoffLimit=5)

    decision = simulation.step()

    assert decision.actions == ()
    assert status_of(simulation).observed_generation == 2
    assert simulation.condition("Trained").observed_generation == 2


def test_other_data_in_the_middle_of_a_run_begins_a_new_one() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.end(exit_code=1)
    simulation.step()
    simulation.plan = a_plan(data="other")

    simulation.step()

    assert simulation.started[-1].stage == PREPARE.name
    assert status_of(simulation).start_time == simulation.now
    assert len(status_of(simulation).attempts) == 1


def newer(plan: Plan) -> Plan:
    """The plan that another release makes of the same job: other keys."""
    stages = tuple(replace(each, key=each.key[::-1]) for each in plan.stages)
    return replace(plan, stages=stages)


def test_another_release_goes_on_with_the_keys_that_a_job_was_started_with() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)

    simulation.plan = pin_keys(newer(a_plan()), simulation.status)

    assert simulation.plan == a_plan()
    assert simulation.step().actions == ()


@pytest.mark.parametrize("contract", [None, CONTRACT + 1])
def test_what_stages_no_longer_understand_is_begun_anew_unless_it_is_over(
    contract: int | None,
) -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    going = status_of(simulation).model_copy(update={"contract": contract})
    over = going.model_copy(update={"phase": Phase.SUCCEEDED})

    assert pin_keys(newer(a_plan()), going) == newer(a_plan())
    assert pin_keys(newer(a_plan()), over) == a_plan()


def test_a_job_that_has_not_begun_has_the_keys_of_what_it_says_now() -> None:
    simulation = Simulation(a_plan(suspend=True))
    simulation.step()

    assert pin_keys(newer(a_plan()), simulation.status) == newer(a_plan())
    assert pin_keys(newer(a_plan()), None) == newer(a_plan())


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_a_status_that_comes_from_a_backup_has_seen_the_generation_that_there_is(
    phase: Phase,
) -> None:
    """An object that is made anew counts from 1: it would else begin again, or be taken up."""
    plan = replace(a_plan(), generation=1)
    status = FineTuneJobStatus(phase=phase, observed_generation=5)
    restored = of_this_object(plan, status)
    changed = of_this_object(replace(plan, generation=7), status)

    assert restored is not None
    assert restored.observed_generation == 1
    assert is_same_run(plan, restored)
    assert not wants_retry(plan, restored)
    assert changed == status
    assert of_this_object(plan, None) is None
