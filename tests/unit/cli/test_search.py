"""`tunesmith search advise` and `export`, and what a finished job leaves in memory."""

import json
from pathlib import Path

import pytest

from job_folders import a_finished_job, add_stage
from manifests import a_job
from searched_job import a_searched_job, some_trials
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_cli.main import main
from tunesmith_cli.report.cross_validation import CrossValidationSection
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.search import SearchSection
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.job_memory import recall, record_of_job, remember_job
from tunesmith_engine.local.search_memory_file import memory_file, read_memory, remember
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.search_memory.records import PastJob, PastTrial, Task
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.trial_records import Intermediate, TrialRecord, TrialsFile

RATE = "training.optimizer.learningRate"


def an_earlier_search(name: str = "old") -> PastJob:
    return PastJob(
        job=name,
        uid=name,
        task=Task(method="lora", objective="sft", base_loss=4.0, digest=name),
        settings={"training.batch.size": 16},
        trials=[
            PastTrial(settings={RATE: 10**-exp}, value=1.0 + abs(exp - 4)) for exp in (2, 4, 5)
        ],
    )


def test_advice_names_jobs_distances_and_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text for people."""
    a_finished_job(tmp_path)
    remember(memory_file(HomeFolder(tmp_path)), an_earlier_search())

    assert main(["search", "advise", "helpdesk", "--home", str(tmp_path)]) == 0

    told = capsys.readouterr().out
    assert "1 earlier job in memory, 1 of them within 3 standard deviations" in told
    assert "1. from old" in told
    assert f"{RATE}  0.0001" in told


def test_advice_as_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The runner's own words for a proposal."""
    a_finished_job(tmp_path)
    remember(memory_file(HomeFolder(tmp_path)), an_earlier_search())

    main(["search", "advise", "helpdesk", "--home", str(tmp_path), "--output", "json"])

    advice = json.loads(capsys.readouterr().out)
    assert advice["proposals"][0]["sourceJob"] == "old"
    assert advice["proposals"][0]["settings"] == {RATE: 1e-4, "training.batch.size": 16}
    assert advice["nearest"][0]["trials"] == 3


def test_a_job_without_adapters_is_advised_and_an_unsound_space_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rank is nothing that all weights have."""
    path, advise = tmp_path / "job.yaml", ["search", "advise", "--home", str(tmp_path)]
    path.write_text(json.dumps(a_job(training={"method": "full"})))
    assert main([*advise, str(path)]) == 0
    rank = {"field": "training.lora.rank", "values": [0]}
    path.write_text(json.dumps(a_job(search={"parameters": [rank]})))

    assert main([*advise, str(path)]) == 2

    assert "search.parameters[0]: training.lora.rank: 0" in capsys.readouterr().err


def test_without_memory_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And ends well: the search just starts from nothing."""
    a_finished_job(tmp_path)

    assert main(["search", "advise", "helpdesk", "--home", str(tmp_path)]) == 0

    assert "0 earlier jobs in memory; none is near enough" in capsys.readouterr().out


def test_an_unknown_job_and_a_newer_memory_are_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, with the remedy."""
    a_finished_job(tmp_path)

    assert main(["search", "advise", "helpdesq", "--home", str(tmp_path)]) == 2
    assert "did you mean 'helpdesk'?" in capsys.readouterr().err
    memory_file(HomeFolder(tmp_path)).write_text('{"version": 99}\n')
    assert main(["search", "advise", "helpdesk", "--home", str(tmp_path)]) == 2
    assert "use the release that wrote it" in capsys.readouterr().err


def test_a_finished_search_is_remembered_with_its_trials_and_once(tmp_path: Path) -> None:
    """Those that failed have no value."""
    home = HomeFolder(tmp_path)
    folder = a_searched_job(tmp_path, some_trials())
    job = read_job_data(folder.folder, folder.status).job
    assert job is not None

    for _ in range(2):
        remember_job(job, folder.status, home=home)

    (record,) = read_memory(memory_file(home))
    assert len(record.trials) == 20
    assert record.trials[7].value is None
    assert record == record_of_job(job, folder.status, home=home)


def test_the_report_shows_what_a_search_found(tmp_path: Path) -> None:
    """The rate decides, and memory's two trials are told apart."""
    folder = a_searched_job(tmp_path, some_trials())

    section = SearchSection(read_job_data(folder.folder, folder.status))

    assert section.importance is not None
    assert section.importance.rows[0][0] == RATE
    assert section.memory is not None
    assert section.memory.rows[0][:2] == ("helpdesk-old", "2")
    assert section.history is not None
    assert section.parallel is not None
    assert section.front is not None
    assert len(section.slices) == 4
    assert section.about == "16 trials completed, 3 trials pruned, 1 trial failed."


def test_one_objective_has_no_front_and_no_trials_no_section(tmp_path: Path) -> None:
    """Nothing is drawn of nothing."""
    one = a_searched_job(tmp_path, some_trials(3, two_objectives=False))
    none = a_finished_job(tmp_path, name="plain")

    few = SearchSection(read_job_data(one.folder, one.status))
    empty = SearchSection(read_job_data(none.folder, none.status))

    assert few.front is None
    assert few.importance is None
    assert empty.trials is None
    assert empty.history is None


def test_the_study_of_a_search_is_exported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is; what is there is never overwritten."""
    folder = a_searched_job(tmp_path, some_trials(3))
    study, copy = folder.folder / "study.journal", tmp_path / "copy.journal"
    study.write_text("of optuna")
    add_stage(folder, "search", artifacts=[artifact_of("study", study)])
    export = ["search", "export", "searched", str(copy), "--home", str(tmp_path)]

    assert main(export) == 0
    assert copy.read_text() == "of optuna"
    assert "optuna-dashboard" in capsys.readouterr().out
    assert main(export) == 2
    assert "exists; give another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export", "helpdesk"], "needs a file to write"),
        (["export", "helpdesk", "x.journal"], "has no finished search"),
        (["advise", "helpdesk", "x.journal"], "writes no file"),
    ],
)
def test_what_cannot_be_exported_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    a_finished_job(tmp_path)

    assert main(["search", *words, "--home", str(tmp_path)]) == 2

    assert told in capsys.readouterr().err


def test_a_search_is_told_of_other_jobs_and_not_of_itself(tmp_path: Path) -> None:
    """What the executor hands over; a memory of a newer release is a warning."""
    home = HomeFolder(tmp_path)
    job = FineTuneJob.model_validate(
        a_job(search={"parameters": [{"field": RATE, "minimum": 1e-5, "maximum": 1e-2}]})
    )
    planned = plan(job, fingerprints={})
    own = f"{planned.job} {planned.stage('search').key[:16]}"
    for record in (an_earlier_search(), an_earlier_search("self").model_copy(update={"uid": own})):
        remember(memory_file(home), record)

    told = recall(planned, None, home=home)
    memory_file(home).write_text('{"version": 99}\n')
    refused = recall(planned, None, home=home)

    assert told is not None
    assert refused is not None
    assert [each.record.job for each in told.neighbours] == ["old"]
    assert refused.neighbours == []
    assert "the search starts from nothing" in refused.warning


def test_the_report_shows_the_folds_and_their_interval(tmp_path: Path) -> None:
    """With a curve for each fold."""
    folder = a_finished_job(tmp_path)
    path = folder.folder / "folds.json"
    folds = [
        TrialRecord(
            number=number,
            parameters={},
            state="completed",
            objectives={"heldOutLoss": 2.0 + number},
            intermediates=[Intermediate(tokens=10, step=step, value=4.0 - step) for step in (1, 2)],
            best_step=2,
        )
        for number in range(3)
    ]
    TrialsFile(trials=folds).write(path)
    add_stage(
        folder,
        "crossval",
        artifacts=[artifact_of("folds", path)],
        facts={
            "heldOutLoss": {"mean": 3.0, "low": 0.52, "high": 5.48, "deviation": 1.0},
            "folds": [{"rows": 8}] * 3,
            "medianBestStep": 2,
        },
    )

    section = CrossValidationSection(read_job_data(folder.folder, folder.status))

    assert section.about.startswith("Held-out loss 3, 0.52 to 5.48 by Student's t")
    assert section.curves is not None
    assert section.interval is not None
    assert section.folds is not None
    assert section.folds.rows[0][1:5] == ("completed", "8", "2", "2")
