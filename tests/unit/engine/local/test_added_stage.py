"""A stage is added by its row: run, told, skipped and left out like every other."""

import json

from counting import WANTED, WITH_COUNT
from fake_runs import Place, a_small_job
from manifests import DEFAULT_STAGES

STAGES = ["prepare", "train", "count", "evaluate", "compress", "verify", "publish"]


def test_a_job_that_wants_it_goes_through_it(place: Place) -> None:
    status = place.run(a_small_job(**WANTED), catalog=WITH_COUNT)

    assert [stage.name for stage in status.stages] == STAGES
    assert {seen.phase for seen in place.seen} >= {"Training", "Counting", "Evaluating"}
    assert next(each for each in status.conditions if each.type == "Counted").status == "True"
    assert "1 artifacts of prepare" in {stage.message for stage in status.stages}
    assert status.progress is not None
    assert status.progress.percent == 100


def test_it_is_given_the_results_that_it_reads_and_no_others(place: Place) -> None:
    place.run(a_small_job(**WANTED), catalog=WITH_COUNT)

    (written,) = place.home.root.glob("jobs/*/stages/count/*/attempts/1/request.json")
    assert list(json.loads(written.read_text())["inputs"]) == ["prepare"]


def test_a_job_that_does_not_want_it_shows_nothing_of_it(place: Place) -> None:
    status = place.run(catalog=WITH_COUNT)

    assert place.started() == list(DEFAULT_STAGES)
    assert [stage.name for stage in status.stages] == list(DEFAULT_STAGES)
    assert "Counted" not in {each.type for each in status.conditions}


def test_switched_on_later_it_alone_is_run(place: Place) -> None:
    place.run(catalog=WITH_COUNT)
    status = place.run(a_small_job(**WANTED), catalog=WITH_COUNT)

    assert place.started() == list(DEFAULT_STAGES)
    assert [stage.name for stage in status.stages if not stage.cached] == ["count"]


def test_switched_off_again_nothing_is_run_and_its_condition_goes(place: Place) -> None:
    place.run(a_small_job(**WANTED), catalog=WITH_COUNT)
    status = place.run(catalog=WITH_COUNT)

    assert all(stage.cached for stage in status.stages)
    assert "Counted" not in {each.type for each in status.conditions}


def test_a_run_can_end_with_it(place: Place) -> None:
    status = place.run(a_small_job(**WANTED), until="count", catalog=WITH_COUNT)

    assert [stage.name for stage in status.stages] == STAGES[:3]
    assert status.phase == "Suspended"
