"""A failed job in a cluster is taken up again with all that is done."""

from dataclasses import replace
from typing import Any

import pytest

from simulation import Simulation, a_plan
from tunesmith_api.finetunejob.job import RETRY_ANNOTATION, FineTuneJob
from tunesmith_api.finetunejob.status import MAX_RETRY_VALUE, FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Start
from tunesmith_engine.lifecycle.rejections import reject_spec
from tunesmith_engine.lifecycle.runs import pin_keys
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import CONTRACT, StageName

FP8: dict[str, Any] = {"quantize": {"scheme": "FP8"}}
NONE: dict[str, Any] = {"quantize": {"scheme": "none"}}


def failed_in(stage: StageName, **job: Any) -> Simulation:
    simulation = Simulation(a_plan(**job))
    simulation.run_up_to(stage)
    simulation.refuse(Reason.RESOURCES_UNAVAILABLE, bad_input=True)
    simulation.step()
    assert status_of(simulation).phase == Phase.FAILED
    return simulation


def status_of(simulation: Simulation) -> FineTuneJobStatus:
    assert simulation.status is not None
    return simulation.status


def look(simulation: Simulation, plan: Plan) -> tuple[Any, ...]:
    """What an operator does with a job that now has this plan."""
    simulation.plan = pin_keys(plan, simulation.status)
    return simulation.step().actions


def names_started(simulation: Simulation) -> list[str]:
    return [f"{start.stage}-{start.attempt}" for start in simulation.started]


def keys(plan: Plan) -> dict[str, str]:
    return {stage.name: stage.key for stage in plan.stages}


def test_a_retry_goes_on_with_the_stage_that_failed_and_keeps_the_history() -> None:
    simulation = failed_in(COMPRESS.name)
    before = status_of(simulation)
    simulation.pass_time(3600)

    (action,) = look(simulation, a_plan(retry="now"))

    after = status_of(simulation)
    assert isinstance(action, Start)
    assert (action.stage, action.attempt) == (COMPRESS.name, 2)
    assert after.attempts[:-1] == before.attempts
    assert after.stages[:3] == before.stages[:3]
    assert after.gpu_seconds == before.gpu_seconds
    assert after.last_handled_retry_at == "now"
    assert (after.start_time, after.completion_time) == (simulation.now, None)
    assert simulation.condition("Failed").status == "False"
    simulation.run_until(lambda each: status_of(each).is_finished)
    assert names_started(simulation) == [
        *("prepare-1", "train-1", "evaluate-1", "compress-1"),
        *("compress-2", "verify-1", "publish-1"),
    ]


def test_the_same_request_acts_once_and_another_one_again() -> None:
    simulation = failed_in(COMPRESS.name)
    look(simulation, a_plan(retry="1"))
    simulation.refuse(Reason.RESOURCES_UNAVAILABLE, bad_input=True)
    simulation.step()

    assert look(simulation, a_plan(retry="1")) == ()
    assert look(simulation, a_plan()) == ()
    assert status_of(simulation).phase == Phase.FAILED
    (action,) = look(simulation, a_plan(retry="2"))
    assert action.attempt == 3


def test_a_request_while_the_job_runs_does_not_act_when_it_fails_later() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)

    assert look(simulation, a_plan(retry="1")) == ()
    simulation.refuse(Reason.LOSS_DIVERGED)
    look(simulation, a_plan(retry="1"))

    assert status_of(simulation).phase == Phase.FAILED
    assert status_of(simulation).last_handled_retry_at == "1"


def test_a_request_of_a_job_that_succeeded_is_noted_and_does_nothing() -> None:
    simulation = Simulation(a_plan())
    simulation.run_until(lambda each: status_of(each).is_finished)
    before = status_of(simulation)

    assert look(simulation, a_plan(retry="1")) == ()

    assert status_of(simulation) == before.model_copy(update={"last_handled_retry_at": "1"})


def test_a_retry_whose_status_was_lost_or_whose_start_was_lost_is_decided_the_same_again() -> None:
    simulation = failed_in(COMPRESS.name)
    simulation.plan = pin_keys(a_plan(retry="1"), simulation.status)

    first, second = simulation.decide(), simulation.decide()
    simulation.status = first.status
    third = simulation.decide()

    assert first == second
    assert third.actions == first.actions
    assert third.status == first.status


@pytest.mark.parametrize("retry", ["", "1"])
def test_a_correction_repeats_what_reads_it_and_nothing_before(retry: str) -> None:
    simulation = failed_in(COMPRESS.name, compression=FP8)
    before = keys(simulation.plan)

    (action,) = look(simulation, a_plan(compression=NONE, generation=2, retry=retry))

    after = keys(simulation.plan)
    same = {name for name in before if before[name] == after[name]}
    assert same == {PREPARE.name, TRAIN.name, EVALUATE.name}
    # The number goes on, although the key is another: of both people see the same list.
    assert (action.stage, action.key, action.attempt) == (COMPRESS.name, after[COMPRESS.name], 2)
    assert look(simulation, a_plan(compression=NONE, generation=2, retry=retry)) == ()


def test_more_memory_leaves_the_stage_its_key_and_so_its_checkpoint() -> None:
    simulation = failed_in(TRAIN.name)
    before = keys(simulation.plan)

    look(simulation, a_plan(resources={"memory": "64Gi"}, generation=2))

    assert keys(simulation.plan) == before
    assert names_started(simulation)[-1] == "train-2"


def newer(plan: Plan) -> Plan:
    """The plan that another release makes of the same job: other keys."""
    return replace(plan, stages=tuple(replace(each, key=each.key[::-1]) for each in plan.stages))


def test_an_upgrade_between_failure_and_retry_repeats_nothing() -> None:
    simulation = failed_in(TRAIN.name)
    before = keys(simulation.plan)

    look(simulation, newer(a_plan(retry="1")))

    assert keys(simulation.plan) == before
    assert names_started(simulation) == ["prepare-1", "train-1", "train-2"]


def test_after_an_upgrade_what_is_corrected_gets_a_key_of_the_new_release() -> None:
    simulation = failed_in(COMPRESS.name, compression=FP8)
    wanted = newer(a_plan(compression=NONE, generation=2))

    look(simulation, wanted)

    assert simulation.plan.stage(COMPRESS.name) == wanted.stage(COMPRESS.name)
    assert names_started(simulation)[-2:] == ["compress-1", "compress-2"]


def test_what_stages_no_longer_understand_begins_anew() -> None:
    simulation = failed_in(COMPRESS.name)
    old = status_of(simulation).model_copy(update={"contract": CONTRACT - 1})
    simulation.status = old

    (action,) = look(simulation, newer(a_plan(retry="1")))

    assert action.stage == PREPARE.name


def test_where_nothing_holds_people_to_it_a_change_of_what_is_done_repeats_it() -> None:
    """Without the chart's policy the API server lets any field of a failed job be changed."""
    simulation = failed_in(COMPRESS.name)

    (action,) = look(simulation, a_plan(training={"seed": 7}, generation=2))

    assert (action.stage, action.attempt) == (TRAIN.name, 2)


def test_a_suspended_job_is_taken_up_and_waits_to_be_resumed() -> None:
    simulation = failed_in(COMPRESS.name)
    began = status_of(simulation).start_time

    assert look(simulation, a_plan(suspend=True, generation=2)) == ()
    assert status_of(simulation).phase == Phase.SUSPENDED
    # It has one: what is done stays fixed for the API server.
    assert status_of(simulation).start_time == began
    (action,) = look(simulation, a_plan(generation=3))
    assert action.stage == COMPRESS.name


def test_the_clock_of_the_deadline_starts_anew() -> None:
    simulation = Simulation(a_plan(activeDeadlineSeconds=60))
    simulation.run_up_to(TRAIN.name)
    simulation.pass_time(61)
    simulation.step()
    simulation.end(exit_code=-15)
    simulation.step()
    assert simulation.condition("Failed").reason == Reason.DEADLINE_EXCEEDED
    simulation.pass_time(600)

    (action,) = look(simulation, a_plan(activeDeadlineSeconds=60, retry="1"))

    assert isinstance(action, Start)
    assert action.stage == TRAIN.name


def test_a_pod_that_is_given_up_and_still_there_is_waited_for() -> None:
    """Two attempts of a job never write to its volume at once."""
    simulation = failed_in(COMPRESS.name)
    last = max(simulation.latest.values(), key=lambda each: each.stage == COMPRESS.name)
    simulation.see(replace(last, is_running=True, result=None))

    (stop,) = look(simulation, a_plan(retry="1"))

    assert not isinstance(stop, Start)
    simulation.end(exit_code=-15)
    (start,) = look(simulation, a_plan(retry="1"))
    assert (start.stage, start.attempt) == (COMPRESS.name, 2)


def test_a_job_that_became_unreadable_while_it_ran_is_corrected_without_losing_what_is_done() -> (
    None
):
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.status = reject_spec(
        simulation.status, generation=2, message="spec.magic: unknown field", now=simulation.now
    )

    (stop,) = look(simulation, a_plan(training={"seed": 7}, generation=3))
    simulation.end(exit_code=-15)
    (start,) = look(simulation, a_plan(training={"seed": 7}, generation=3))

    assert (stop.stage, stop.attempt, stop.because) == (TRAIN.name, 1, "Superseded")
    assert (start.stage, start.attempt) == (TRAIN.name, 2)
    assert simulation.plan.stage(TRAIN.name) == a_plan(training={"seed": 7}).stage(TRAIN.name)


def test_a_long_value_is_handled_as_the_status_can_keep_it() -> None:
    simulation = failed_in(COMPRESS.name)
    long = "x" * 2 * MAX_RETRY_VALUE

    assert look(simulation, a_plan(retry=long)) != ()
    assert look(simulation, a_plan(retry=long)) == ()


def test_the_annotation_is_read_from_the_manifest() -> None:
    manifest = {
        "metadata": {"name": "helpdesk", "annotations": {RETRY_ANNOTATION: "now"}},
        "spec": {
            "model": {"uri": "hf://a/b"},
            "dataset": {"train": {"uri": "file://rows.jsonl"}},
            "output": {"model": "helpdesk"},
        },
    }

    assert FineTuneJob.model_validate(manifest).retry_requested == "now"
