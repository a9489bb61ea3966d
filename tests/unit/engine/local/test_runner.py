"""`run_job` from the manifest on: sources on disk, their keys, and refusals before a start."""

import json
import threading

import pytest

from fake_runs import Place, a_small_job
from small_models import write_model
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine import capacity
from tunesmith_engine.estimates import SHORTEST_ROW, estimate
from tunesmith_engine.local.errors import EnvironmentMissing, MachineTooSmall
from tunesmith_engine.local.runner import run_job
from tunesmith_engine.planning.plan import NoSuchStage
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.stages.catalog import PREPARE, PUBLISH, TRAIN
from tunesmith_engine.stages.contracts import StageName


@pytest.fixture
def job(place: Place) -> FineTuneJob:
    """A job with a model of a few zeros and one row, both beside the manifest."""
    write_model(place.base / "model")
    (place.base / "rows.jsonl").write_text('{"text": "a row"}\n')
    return a_small_job(
        model={"uri": "file://model"}, dataset={"train": {"uri": "file://rows.jsonl"}}
    )


def run(
    place: Place,
    job: FineTuneJob,
    *,
    until: StageName = TRAIN.name,
    forced_from: StageName | None = None,
) -> FineTuneJobStatus:
    return run_job(
        job,
        manifest_text="the manifest\n",
        base=place.base,
        home=place.home,
        environments=place.environments,
        until=until,
        forced_from=forced_from,
        watch=place.seen.append,
        stop=threading.Event(),
    )


def test_a_second_run_looks_and_runs_nothing_and_a_changed_byte_of_data_reruns_all(
    place: Place, job: FineTuneJob
) -> None:
    run(place, job)
    again = run(place, job)
    (place.base / "rows.jsonl").write_text('{"text": "b row"}\n')
    changed = run(place, job)

    assert all(stage.cached for stage in again.stages)
    assert not any(stage.cached for stage in changed.stages)
    assert place.started() == ["prepare", "train"] * 2
    assert place.home.manifest("helpdesk").read_text() == "the manifest\n"


def test_stages_that_are_forced_are_done_again_without_what_they_left(
    place: Place, job: FineTuneJob
) -> None:
    run(place, job)
    (made,) = place.home.job("helpdesk").glob("stages/train/*/artifacts/made.txt")
    checkpoint = made.with_name("checkpoint")
    checkpoint.write_text("half")

    tail = run(place, job, forced_from=TRAIN.name)
    whole = run(place, job, forced_from=PREPARE.name)

    assert place.started() == ["prepare", "train", "train", "prepare", "train"]
    assert [stage.cached for stage in tail.stages] == [True, False]
    assert [stage.attempt for stage in whole.stages] == [2, 3]
    assert not checkpoint.exists()
    # The logs of all attempts stay.
    assert len(list(place.home.job("helpdesk").glob("stages/train/*/attempts/*/log.txt"))) == 3


def test_a_stage_that_is_forced_must_be_one_that_the_run_goes_through(
    place: Place, job: FineTuneJob
) -> None:
    run(place, job)

    with pytest.raises(NoSuchStage, match="does not go through publish; name one of"):
        run(place, job, forced_from=PUBLISH.name)

    assert all(stage.cached for stage in run(place, job).stages)


def test_what_cannot_run_here_is_refused_before_anything_starts(
    place: Place, job: FineTuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 1 << 20)

    with pytest.raises(MachineTooSmall, match="machine has 0") as refused:
        run(place, job)

    assert refused.value.reason is Reason.MEMORY_ESTIMATE_EXCEEDED
    assert place.started() == []
    assert place.home.list_jobs() == []


def test_accelerators_that_are_not_there_are_missed_before_anything_starts(
    place: Place, job: FineTuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job.spec.model_copy(update={"resources": Resources(gpus_per_worker=1)})
    job = job.model_copy(update={"spec": spec})
    monkeypatch.setattr(capacity, "_nvidia_memory", list)

    with pytest.raises(MachineTooSmall, match="this machine has 0") as refused:
        run(place, job)

    assert refused.value.reason is Reason.RESOURCES_UNAVAILABLE
    assert place.started() == []


def test_memory_is_judged_by_the_rows_that_there_are(
    place: Place, job: FineTuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read_model_facts(place.base / "model")
    enough = estimate(job.spec, facts, longest_row=SHORTEST_ROW).memory_bytes[TRAIN.name]
    monkeypatch.setattr(capacity, "memory_bytes", lambda: enough)

    run(place, job, until=PREPARE.name)
    _prepare_says(place, longest_row=facts.context_length)
    with pytest.raises(MachineTooSmall, match="train is estimated"):
        run(place, job)
    _prepare_says(place, longest_row=SHORTEST_ROW)
    run(place, job)

    assert place.started() == ["prepare", "train"]


def _prepare_says(place: Place, *, longest_row: int) -> None:
    """Put into the result of prepare what the real stage would have found."""
    (path,) = place.home.job("helpdesk").glob("stages/prepare/*/result.json")
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "facts": {"longestRow": longest_row}}))


def test_a_machine_that_became_too_small_does_not_refuse_what_is_done(
    place: Place, job: FineTuneJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(place, job)
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 1 << 20)
    (place.environments.root / "trainer/bin/python").unlink()

    again = run(place, job)

    assert all(stage.cached for stage in again.stages)


def test_a_missing_environment_is_named_before_anything_starts(
    place: Place, job: FineTuneJob
) -> None:
    (place.environments.root / "trainer/bin/python").unlink()

    with pytest.raises(EnvironmentMissing, match=r"'trainer' is not installed.*make setup"):
        run(place, job)

    assert place.home.list_jobs() == []


def test_data_that_is_not_there_is_bad_input_and_leaves_the_job_unlocked(
    place: Place, job: FineTuneJob
) -> None:
    (place.base / "rows.jsonl").unlink()

    with pytest.raises(SourceError) as refused:
        run(place, job)

    assert refused.value.reason is Reason.DATASET_NOT_FOUND
    assert not place.home.is_running("helpdesk")
