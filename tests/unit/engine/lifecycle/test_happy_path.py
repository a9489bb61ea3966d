"""A job that nothing goes wrong with, from nothing to a published version."""

from dataclasses import replace
from datetime import timedelta

import pytest

from manifests import DEFAULT_STAGES
from simulation import START, Simulation, a_plan, a_result, is_at_rest
from tunesmith_api.finetunejob.status import Phase, Progress
from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.stages.catalog import (
    COMPRESS,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageName


def is_over(simulation: Simulation) -> bool:
    return simulation.status is not None and is_at_rest(simulation.status)


def test_stages_run_in_order_one_attempt_each() -> None:
    simulation = Simulation(a_plan())

    simulation.run_until(is_over)

    assert [(each.stage, each.attempt) for each in simulation.started] == [
        (stage, 1) for stage in DEFAULT_STAGES
    ]


@pytest.mark.parametrize(
    ("stage", "phase"),
    [
        (PREPARE.name, PREPARE.phase),
        (TRAIN.name, TRAIN.phase),
        (EVALUATE.name, EVALUATE.phase),
        (COMPRESS.name, COMPRESS.phase),
        (VERIFY.name, VERIFY.phase),
        (PUBLISH.name, PUBLISH.phase),
    ],
)
def test_the_phase_names_the_running_stage(stage: StageName, phase: str) -> None:
    simulation = Simulation(a_plan())

    simulation.run_up_to(stage)

    assert simulation.status is not None
    assert simulation.status.phase == phase


def test_a_finished_job_is_ready_and_complete() -> None:
    simulation = Simulation(a_plan())

    simulation.run_until(is_over)

    assert simulation.status is not None
    assert simulation.status.phase == Phase.SUCCEEDED
    assert simulation.status.completion_time == simulation.now
    told = {each.type: each.status for each in simulation.status.conditions}
    assert told == {
        "DataReady": "True",
        "Trained": "True",
        "Evaluated": "True",
        "Compressed": "True",
        "Verified": "True",
        "Published": "True",
        "Suspended": "False",
        "Complete": "True",
        "Failed": "False",
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }


def test_a_running_job_is_reconciling_and_not_ready() -> None:
    simulation = Simulation(a_plan())

    simulation.run_up_to(TRAIN.name)

    assert simulation.condition("Reconciling").status == "True"
    assert simulation.condition("Ready").status == "False"
    assert simulation.condition("DataReady").reason == Reason.SUCCEEDED
    assert simulation.condition("Trained").reason == Reason.RUNNING
    assert simulation.condition("Evaluated").reason == Reason.PENDING


def test_a_stage_with_a_finished_result_is_cached_and_not_started() -> None:
    earlier = Simulation(a_plan())
    earlier.run_until(is_over)
    simulation = Simulation(a_plan(), finished=earlier.finished)

    simulation.step()

    assert simulation.started == []
    assert simulation.status is not None
    assert simulation.status.phase == Phase.SUCCEEDED
    assert all(stage.cached for stage in simulation.status.stages)
    assert simulation.condition("Trained").reason == Reason.CACHED


def test_a_stage_that_ran_in_this_run_is_not_cached() -> None:
    simulation = Simulation(a_plan())

    simulation.run_until(is_over)

    assert simulation.status is not None
    assert not any(stage.cached for stage in simulation.status.stages)


def test_a_result_of_another_stage_under_the_key_is_ignored() -> None:
    simulation = Simulation(a_plan())
    simulation.step()
    (attempt,) = simulation.running
    simulation.finished[attempt.key] = a_result(attempt).model_copy(update={"stage": TRAIN.name})

    simulation.step()

    assert simulation.stage(PREPARE.name).state == "Running"


def test_findings_are_copied_and_the_compressed_numbers_stand_beside_the_tuned() -> None:
    simulation = Simulation(a_plan())
    tuned = EvaluationResult(suite="heldOut", split="tuned", metric="loss", value=1.0, n=3)
    compressed = tuned.model_copy(update={"split": "compressed", "value": 1.1})
    card = Artifact(name="card", uri="file:///card", digest="sha256:0", bytes=1)
    simulation.step()
    simulation.finish(artifacts=[card], warnings=["few rows"], versions={"torch": "2.13"})
    simulation.run_up_to(EVALUATE.name)
    simulation.finish(evaluation=[tuned])
    simulation.step()
    simulation.finish(evaluation=[compressed], facts={"resolved": {"groupSize": "64"}})

    simulation.step()

    assert simulation.status is not None
    assert simulation.status.artifacts == [card]
    assert simulation.status.warnings == ["few rows"]
    assert simulation.status.evaluation == [tuned, compressed]
    assert simulation.status.versions["trainer/torch"] == "2.13"
    assert simulation.status.resolved["groupSize"] == "64"
    assert simulation.status.resolved["training.epochs"] == "3.0"


def test_the_version_that_publish_names_is_the_jobs_version() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(PUBLISH.name)
    simulation.finish(facts={"modelVersion": {"metadata": {"name": "helpdesk-1a2b"}}})

    simulation.step()

    assert simulation.status is not None
    assert simulation.status.model_version == "helpdesk-1a2b"


def test_progress_of_the_job_counts_the_finished_stages_and_the_steps_of_the_running_one() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    (attempt,) = simulation.running
    half = Progress(stage="train", step=5, total_steps=10, last_update_time=START)
    simulation.see(replace(attempt, progress=half))

    simulation.step()

    assert simulation.status is not None
    assert simulation.status.progress is not None
    assert simulation.status.progress.percent == 5 + 55 / 2
    assert simulation.status.progress.step == 5


def test_a_job_that_was_to_go_half_of_the_way_is_not_done_to_the_hundredth() -> None:
    simulation = Simulation(a_plan(until=PREPARE.name))
    simulation.run_until(is_over)

    assert simulation.status is not None
    assert simulation.status.progress is not None
    assert simulation.status.progress.percent == 5


def test_progress_of_the_job_does_not_go_back_when_a_stage_counts_its_next_task() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(EVALUATE.name)
    percents = []
    for step in (9, None, 1):
        (attempt,) = simulation.running
        told = Progress(stage="evaluate", step=step, total_steps=10, last_update_time=START)
        simulation.see(replace(attempt, progress=told))
        simulation.step()
        assert simulation.status is not None
        assert simulation.status.progress is not None
        percents.append(simulation.status.progress.percent)

    assert percents == [percents[0]] * 3


def test_looking_again_later_writes_nothing() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    before = simulation.status

    simulation.pass_time(30)
    decision = simulation.step()

    assert decision.status == before
    assert decision.actions == ()


def test_an_attempt_records_where_it_went_on_and_how_it_ended() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.pass_time(60)
    simulation.finish(resumed_from_step=40, seconds=59.5)

    simulation.step()

    assert simulation.status is not None
    attempt = next(each for each in simulation.status.attempts if each.stage == "train")
    assert attempt.resumed_from_step == 40
    assert attempt.reason == Reason.SUCCEEDED
    assert attempt.end_time == attempt.start_time + timedelta(seconds=60)
    assert simulation.stage(TRAIN.name).seconds == 59.5


def test_a_job_run_up_to_a_stage_rests_there_without_having_failed() -> None:
    simulation = Simulation(a_plan(until=TRAIN.name))

    simulation.run_until(is_over)

    assert simulation.status is not None
    assert simulation.status.phase == Phase.SUSPENDED
    assert simulation.condition("Suspended").reason == Reason.STOPPED_AS_ASKED
    assert simulation.condition("Complete").status == "False"
    assert simulation.condition("Failed").status == "False"
    assert simulation.condition("Reconciling").status == "False"


def test_a_job_run_up_to_a_stage_goes_on_from_there_when_run_whole() -> None:
    simulation = Simulation(a_plan(until=TRAIN.name))
    simulation.run_until(is_over)
    simulation.plan = a_plan()

    simulation.run_until(lambda each: each.status is not None and each.status.is_finished)

    assert simulation.status is not None
    assert simulation.status.phase == Phase.SUCCEEDED
    assert [each.stage for each in simulation.started] == list(DEFAULT_STAGES)
