"""`tunesmith search advise`, and what a finished job leaves in memory."""

import json
from pathlib import Path

import pytest

from job_folders import a_finished_job
from searched_job import a_searched_job, some_trials
from tunesmith_cli.main import main
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.search import SearchSection
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.job_memory import record_of_job, remember_job
from tunesmith_engine.local.search_memory_file import memory_file, read_memory, remember
from tunesmith_engine.search_memory.records import PastJob, PastTrial, Task

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
