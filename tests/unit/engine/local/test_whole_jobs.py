"""Whole jobs on this machine: what runs, what is taken from earlier, and how failures end."""

import json
import re
import shutil
from pathlib import Path

import pytest

from fake_runs import STAGES, Place, a_small_job
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.local import results
from tunesmith_engine.stages import catalog
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import digest_file

PREPARE = catalog.PREPARE.name


def failure(status: FineTuneJobStatus) -> tuple[str, str]:
    """Reason and message of the condition Failed."""
    found = next(each for each in status.conditions if each.type == "Failed")
    assert found.status == "True"
    return found.reason, found.message


@pytest.fixture
def finished(place: Place) -> Place:
    """All six stages through the entry of real stages; later runs start quicker ones."""
    place.wish(**{name: ["entry"] for name in STAGES})
    assert place.run().phase == Phase.SUCCEEDED
    place.wish()
    return place


def test_a_job_goes_through_all_six_stages_and_a_changed_scheme_reruns_only_the_tail(
    finished: Place,
) -> None:
    first = list(finished.started())
    again = finished.run()
    second = list(finished.started())
    changed = finished.run(a_small_job(compression={"quantize": {"scheme": "none"}}))

    assert first == STAGES
    assert second == STAGES
    assert all(stage.cached for stage in again.stages)
    assert finished.started() == [*STAGES, "compress", "verify", "publish"]
    assert [stage.cached for stage in changed.stages] == [True, True, True, False, False, False]


def test_a_finished_job_run_again_whole_or_in_part_keeps_when_it_ran_and_its_attempts(
    place: Place,
) -> None:
    before = place.run()
    whole, part = place.run(), place.run(until=PREPARE)

    assert before.phase == Phase.SUCCEEDED
    for again in (whole, part, place.home.read_status("helpdesk")):
        assert again is not None
        assert again.phase == Phase.SUCCEEDED
        assert (again.start_time, again.completion_time) == (
            before.start_time,
            before.completion_time,
        )
        assert again.attempts == before.attempts
        assert [stage.name for stage in again.stages] == STAGES


def made_by(place: Place, stage: str) -> Path:
    planned = place.plan().stage(stage)
    return place.home.stage("helpdesk", stage=stage, key=planned.key).artifacts / "made.txt"


def test_an_artifact_that_was_overwritten_at_the_same_size_is_made_anew(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.run(until=TRAIN.name)
    made_by(place, PREPARE).write_text("torn")

    again = place.run(until=TRAIN.name)

    assert place.started() == ["prepare", "train", "prepare"]
    assert [stage.cached for stage in again.stages] == [False, True]
    assert made_by(place, PREPARE).read_text() == "made"
    assert f"{made_by(place, PREPARE).resolve()} was changed" in caplog.text


def test_an_artifact_that_was_only_touched_counts_and_is_digested_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run(until=PREPARE)
    made_by(place, PREPARE).write_text("made")
    digested: list[Path] = []

    def noted(path: Path) -> str:
        digested.append(path)
        return digest_file(path)

    monkeypatch.setattr(results, "digest_file", noted)
    place.run(until=PREPARE)
    place.run(until=PREPARE)

    assert place.started() == ["prepare"]
    assert digested == [made_by(place, PREPARE).resolve()]


def test_a_stage_is_told_what_came_before_it_and_where_it_may_write(place: Place) -> None:
    place.run(until=TRAIN.name)

    train = place.plan().stage(TRAIN.name)
    folder = place.home.stage("helpdesk", stage="train", key=train.key)
    request = StageRequest.model_validate_json(folder.attempt(1).request.read_bytes())
    made = request.inputs[PREPARE].artifact("made")
    assert list(request.inputs) == [PREPARE]
    assert made.uri.startswith(place.home.job("helpdesk").resolve().as_uri())
    assert request.output == str(folder.artifacts.resolve())
    assert request.stage_keys[TRAIN.name] == train.key
    assert request.spec.training.epochs == 3


def test_a_job_stopped_at_a_stage_goes_on_from_there(place: Place) -> None:
    half = place.run(until=PREPARE)
    whole = place.run(until=TRAIN.name)

    assert half.phase == Phase.SUSPENDED
    assert place.started() == ["prepare", "train"]
    assert [stage.cached for stage in whole.stages] == [True, False]


def test_progress_reaches_whoever_watches_and_the_stored_status_is_the_last_one_seen(
    place: Place,
) -> None:
    place.wish(prepare=["entry"])

    status = place.run(until=PREPARE)

    assert place.home.read_status("helpdesk") == status == place.seen[-1]
    assert [each for each in place.seen if each.phase == catalog.PREPARE.phase]
    assert len(place.seen) == len({each.model_dump_json() for each in place.seen})


def test_crashes_are_retried_until_the_limit_each_in_its_own_folder(place: Place) -> None:
    place.wish(prepare=["crash", "vanish"])

    status = place.run(a_small_job(backoffLimit=1), until=PREPARE)

    reason, message = failure(status)
    assert status.phase == Phase.FAILED
    assert reason == "BackoffLimitExceeded"
    assert "exit code 7" in message
    assert message.endswith("attempts/2/log.txt")
    log = place.home.log("helpdesk", stage="prepare", attempt=1)
    assert "RuntimeError: as asked" in log.read_text()
    assert place.home.log("helpdesk", stage="prepare", attempt=2) != log


def test_a_crash_that_repeats_itself_is_told_by_its_error_and_its_log(place: Place) -> None:
    place.wish(prepare=["crash"])

    status = place.run(a_small_job(backoffLimit=9), until=PREPARE)

    log = place.home.log("helpdesk", stage="prepare", attempt=2)
    crash = status.attempts[0].message
    assert re.fullmatch(r"RuntimeError at fake_stages/\S+, from \S+ \(step 1\)", crash)
    said = f"prepare crashed twice alike: {crash}; see {log.resolve()}"
    assert failure(status) == ("StageCrashed", said)
    assert "as asked" in log.read_text()


def test_a_stage_that_cannot_even_start_is_told_by_what_its_log_ends_with(place: Place) -> None:
    place.wish(prepare=["unloadable"])

    status = place.run(a_small_job(backoffLimit=0), until=PREPARE)

    said = r"ModuleNotFoundError: No module named 'not' at importlib/\S+ \(exit code 1\)"
    assert re.search(said, failure(status)[1])


def test_a_killed_stage_is_called_killed_and_a_second_attempt_may_succeed(place: Place) -> None:
    place.wish(prepare=["die", "succeed"])

    status = place.run(until=PREPARE)

    assert [each.reason for each in status.attempts] == ["Killed", "Succeeded"]


def test_a_full_disk_is_tried_again_and_then_given_up(place: Place) -> None:
    place.wish(prepare=["fullDisk"])

    status = place.run(a_small_job(backoffLimit=1), until=PREPARE)

    reason, message = failure(status)
    assert [each.reason for each in status.attempts] == ["DiskFull", "DiskFull"]
    assert reason == "BackoffLimitExceeded"
    assert "DiskFull" in message


@pytest.mark.parametrize(
    ("behaviour", "reason", "is_bad_input"),
    [("badInput", "DatasetInvalid", True), ("verdict", "EvaluationGateFailed", False)],
)
def test_bad_input_and_verdicts_end_the_job_at_once(
    place: Place, *, behaviour: str, reason: str, is_bad_input: bool
) -> None:
    place.wish(prepare=[behaviour])

    status = place.run(until=PREPARE)

    key = place.plan().stage(PREPARE).key
    folder = place.home.stage("helpdesk", stage="prepare", key=key)
    assert failure(status)[0] == reason
    assert len(status.attempts) == 1
    assert json.loads(folder.attempt(1).result.read_text())["badInput"] is is_bad_input
    assert not folder.result.exists()


def test_a_failed_job_is_tried_again_when_it_is_run_again(place: Place) -> None:
    place.wish(prepare=["badInput", "succeed"])
    failed = place.run(until=PREPARE)

    mended = place.run(until=PREPARE)

    assert failed.phase == Phase.FAILED
    assert [each.number for each in mended.attempts] == [2]
    assert mended.stages[0].state == "Succeeded"


@pytest.mark.parametrize("what", ["artifact", "size", "key"])
def test_a_stage_whose_result_no_longer_holds_is_run_again(place: Place, *, what: str) -> None:
    place.run(until=PREPARE)
    folder = place.home.stage("helpdesk", stage="prepare", key=place.plan().stage(PREPARE).key)
    _spoil(folder.path, what=what)

    status = place.run(until=PREPARE)

    assert place.started() == ["prepare", "prepare"]
    assert not status.stages[0].cached
    assert folder.result.exists()


def _spoil(folder: Path, *, what: str) -> None:
    match what:
        case "artifact":
            shutil.rmtree(folder / "artifacts")
        case "size":
            with (folder / "artifacts/made.txt").open("a") as file:
                file.write("more")
        case "key":
            for path in folder.rglob("result.json"):
                told = json.loads(path.read_text())
                path.write_text(json.dumps({**told, "key": "0" * 64}))


def test_a_torn_result_is_made_anew_from_the_attempt_that_succeeded(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.run(until=PREPARE)
    key = place.plan().stage(PREPARE).key
    path = place.home.stage("helpdesk", stage="prepare", key=key).result
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])

    status = place.run(until=PREPARE)

    assert status.stages[0].cached
    assert path.read_text() == whole
    assert f"{path.resolve()} is no result" in caplog.text
