"""A job that nothing goes wrong with, from nothing to a published version."""

from dataclasses import replace
from datetime import timedelta

import pytest

from theatre import START, Theatre, a_plan, a_result, is_at_rest
from tunesmith_api.finetunejob.status import Phase, Progress
from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.stages.catalog import (
    CATALOG,
    COMPRESS,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageName


def is_over(theatre: Theatre) -> bool:
    return theatre.status is not None and is_at_rest(theatre.status)


def test_stages_run_in_order_one_attempt_each() -> None:
    theatre = Theatre(a_plan())

    theatre.play(is_over)

    assert [(each.stage, each.attempt) for each in theatre.started] == [
        (stage, 1) for stage in CATALOG.names
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
    theatre = Theatre(a_plan())

    theatre.play_up_to(stage)

    assert theatre.status is not None
    assert theatre.status.phase == phase


def test_a_finished_job_is_ready_and_complete() -> None:
    theatre = Theatre(a_plan())

    theatre.play(is_over)

    assert theatre.status is not None
    assert theatre.status.phase == Phase.SUCCEEDED
    assert theatre.status.completion_time == theatre.now
    told = {each.type: each.status for each in theatre.status.conditions}
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
    theatre = Theatre(a_plan())

    theatre.play_up_to(TRAIN.name)

    assert theatre.condition("Reconciling").status == "True"
    assert theatre.condition("Ready").status == "False"
    assert theatre.condition("DataReady").reason == Reason.SUCCEEDED
    assert theatre.condition("Trained").reason == Reason.RUNNING
    assert theatre.condition("Evaluated").reason == Reason.PENDING


def test_a_stage_with_a_finished_result_is_cached_and_not_started() -> None:
    earlier = Theatre(a_plan())
    earlier.play(is_over)
    theatre = Theatre(a_plan(), finished=earlier.finished)

    theatre.step()

    assert theatre.started == []
    assert theatre.status is not None
    assert theatre.status.phase == Phase.SUCCEEDED
    assert all(stage.cached for stage in theatre.status.stages)
    assert theatre.condition("Trained").reason == Reason.CACHED


def test_a_stage_that_ran_in_this_life_is_not_cached() -> None:
    theatre = Theatre(a_plan())

    theatre.play(is_over)

    assert theatre.status is not None
    assert not any(stage.cached for stage in theatre.status.stages)


def test_a_result_of_another_stage_under_the_key_is_ignored() -> None:
    theatre = Theatre(a_plan())
    theatre.step()
    (attempt,) = theatre.running
    theatre.finished[attempt.key] = a_result(attempt).model_copy(update={"stage": TRAIN.name})

    theatre.step()

    assert theatre.stage(PREPARE.name).state == "Running"


def test_findings_are_copied_and_the_compressed_numbers_stand_beside_the_tuned() -> None:
    theatre = Theatre(a_plan())
    tuned = EvaluationResult(suite="heldOut", split="tuned", metric="loss", value=1.0, n=3)
    compressed = tuned.model_copy(update={"split": "compressed", "value": 1.1})
    card = Artifact(name="card", uri="file:///card", digest="sha256:0", bytes=1)
    theatre.step()
    theatre.finish(artifacts=[card], warnings=["few rows"], versions={"torch": "2.13"})
    theatre.play_up_to(EVALUATE.name)
    theatre.finish(evaluation=[tuned])
    theatre.step()
    theatre.finish(evaluation=[compressed], facts={"resolved": {"groupSize": "64"}})

    theatre.step()

    assert theatre.status is not None
    assert theatre.status.artifacts == [card]
    assert theatre.status.warnings == ["few rows"]
    assert theatre.status.evaluation == [tuned, compressed]
    assert theatre.status.versions["trainer/torch"] == "2.13"
    assert theatre.status.resolved["groupSize"] == "64"
    assert theatre.status.resolved["training.epochs"] == "3.0"


def test_the_version_that_publish_names_is_the_jobs_version() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(PUBLISH.name)
    theatre.finish(facts={"modelVersion": {"metadata": {"name": "helpdesk-1a2b"}}})

    theatre.step()

    assert theatre.status is not None
    assert theatre.status.model_version == "helpdesk-1a2b"


def test_progress_of_the_job_counts_the_finished_stages_and_the_steps_of_the_running_one() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    (attempt,) = theatre.running
    half = Progress(stage="train", step=5, total_steps=10, last_update_time=START)
    theatre.see(replace(attempt, progress=half))

    theatre.step()

    assert theatre.status is not None
    assert theatre.status.progress is not None
    assert theatre.status.progress.percent == 5 + 55 / 2
    assert theatre.status.progress.step == 5


def test_looking_again_later_writes_nothing() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    before = theatre.status

    theatre.pass_time(30)
    decision = theatre.step()

    assert decision.status == before
    assert decision.actions == ()


def test_an_attempt_records_where_it_went_on_and_how_it_ended() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    theatre.pass_time(60)
    theatre.finish(resumed_from_step=40, seconds=59.5)

    theatre.step()

    assert theatre.status is not None
    attempt = next(each for each in theatre.status.attempts if each.stage == "train")
    assert attempt.resumed_from_step == 40
    assert attempt.reason == Reason.SUCCEEDED
    assert attempt.end_time == attempt.start_time + timedelta(seconds=60)
    assert theatre.stage(TRAIN.name).seconds == 59.5


def test_a_job_run_up_to_a_stage_rests_there_without_having_failed() -> None:
    theatre = Theatre(a_plan(until=TRAIN.name))

    theatre.play(is_over)

    assert theatre.status is not None
    assert theatre.status.phase == Phase.SUSPENDED
    assert theatre.condition("Suspended").reason == Reason.STOPPED_AS_ASKED
    assert theatre.condition("Complete").status == "False"
    assert theatre.condition("Failed").status == "False"
    assert theatre.condition("Reconciling").status == "False"


def test_a_job_run_up_to_a_stage_goes_on_from_there_when_run_whole() -> None:
    theatre = Theatre(a_plan(until=TRAIN.name))
    theatre.play(is_over)
    theatre.plan = a_plan()

    theatre.play(lambda each: each.status is not None and each.status.is_finished)

    assert theatre.status is not None
    assert theatre.status.phase == Phase.SUCCEEDED
    assert [each.stage for each in theatre.started] == list(CATALOG.names)
