"""When an old status is gone on with, and when a job starts anew."""

from dataclasses import replace
from typing import Any

import pytest

from theatre import Theatre, a_plan
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.runs import as_started, begin
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import CONTRACT


def failed() -> Theatre:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    theatre.refuse(Reason.LOSS_DIVERGED)
    theatre.step()
    return theatre


def status_of(theatre: Theatre) -> FineTuneJobStatus:
    assert theatre.status is not None
    return theatre.status


def test_a_job_never_seen_begins_with_nothing_done() -> None:
    status = begin(a_plan(), None)

    assert status.phase == Phase.PENDING
    assert [stage.state for stage in status.stages] == ["Pending"] * 6


def test_a_failed_job_run_again_starts_its_next_attempt_with_all_its_retries() -> None:
    theatre = failed()
    theatre.status = begin(theatre.plan, theatre.status)

    theatre.step()

    assert theatre.started[-1].stage == TRAIN.name
    assert theatre.started[-1].attempt == 2
    assert theatre.stage(PREPARE.name).cached
    assert theatre.stage(TRAIN.name).failures == 0
    assert theatre.condition("Failed").status == "False"


def test_a_finished_job_run_again_only_looks() -> None:
    theatre = Theatre(a_plan())
    theatre.play(lambda each: status_of(each).is_finished)
    num_started = len(theatre.started)
    theatre.status = begin(theatre.plan, theatre.status)

    theatre.step()

    assert len(theatre.started) == num_started
    assert status_of(theatre).phase == Phase.SUCCEEDED
    assert all(stage.cached for stage in status_of(theatre).stages)


def test_what_a_stage_reported_is_noted_for_as_long_as_it_counts() -> None:
    theatre = Theatre(a_plan())
    theatre.play(lambda each: status_of(each).is_finished)
    noted = [stage.result_digest for stage in status_of(theatre).stages]
    theatre.status = begin(theatre.plan, theatre.status)

    assert noted == [theatre.finished[each.key].digest for each in theatre.plan.stages]
    assert [stage.result_digest for stage in status_of(theatre).stages] == noted

    del theatre.finished[theatre.plan.stages[-1].key]
    theatre.step()
    assert [stage.result_digest for stage in status_of(theatre).stages] == [*noted[:-1], None]


def test_an_interrupted_job_run_again_finds_cached_what_the_first_run_did() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    theatre.stop_asked = True
    theatre.step()
    theatre.end(exit_code=-15)
    theatre.step()
    theatre.stop_asked = False
    theatre.status = begin(theatre.plan, theatre.status)

    theatre.step()

    assert theatre.stage(PREPARE.name).cached
    assert theatre.stage(TRAIN.name).state == "Running"
    assert theatre.started[-1].attempt == 2


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SUCCEEDED])
@pytest.mark.parametrize(
    ("change", "is_new"),
    [({}, False), ({"generation": 2}, True), ({"data": "other"}, True)],
)
def test_a_final_phase_ends_only_with_another_generation_or_other_keys(
    *, phase: str, change: dict[str, Any], is_new: bool
) -> None:
    theatre = failed()
    theatre.status = status_of(theatre).model_copy(update={"phase": phase})
    theatre.plan = a_plan(**change)

    theatre.step()

    assert (status_of(theatre).phase != phase) == is_new


def test_a_new_generation_with_the_same_keys_does_not_disturb_a_running_job() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    theatre.plan = a_plan(generation=2, backoffLimit=5)

    decision = theatre.step()

    assert decision.actions == ()
    assert status_of(theatre).observed_generation == 2
    assert theatre.condition("Trained").observed_generation == 2


def test_other_data_in_the_middle_of_a_life_begins_a_new_one() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    theatre.end(exit_code=1)
    theatre.step()
    theatre.plan = a_plan(data="other")

    theatre.step()

    assert theatre.started[-1].stage == PREPARE.name
    assert status_of(theatre).start_time == theatre.now
    assert len(status_of(theatre).attempts) == 1


def newer(plan: Plan) -> Plan:
    """The plan that another release makes of the same job: other keys."""
    stages = tuple(replace(each, key=each.key[::-1]) for each in plan.stages)
    return replace(plan, stages=stages)


def test_another_release_goes_on_with_the_keys_that_a_job_was_started_with() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)

    theatre.plan = as_started(newer(a_plan()), theatre.status)

    assert theatre.plan == a_plan()
    assert theatre.step().actions == ()


@pytest.mark.parametrize("contract", [None, CONTRACT + 1])
def test_what_stages_no_longer_understand_is_begun_anew_unless_it_is_over(
    contract: int | None,
) -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    going = status_of(theatre).model_copy(update={"contract": contract})
    over = going.model_copy(update={"phase": Phase.SUCCEEDED})

    assert as_started(newer(a_plan()), going) == newer(a_plan())
    assert as_started(newer(a_plan()), over) == a_plan()


def test_a_job_that_has_not_begun_has_the_keys_of_what_it_says_now() -> None:
    theatre = Theatre(a_plan(suspend=True))
    theatre.step()

    assert as_started(newer(a_plan()), theatre.status) == newer(a_plan())
    assert as_started(newer(a_plan()), None) == newer(a_plan())
