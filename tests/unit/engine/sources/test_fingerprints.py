"""Fingerprints change with the content of a source, and with nothing else."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from small_models import write_model
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.sources import digest_cache
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.fingerprints import fingerprint_job

LONG_AGO = 1_000_000_000


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("one")
    for path in [*tmp_path.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return tmp_path


def fingerprints(
    folder: Path, suites: Sequence[str] = (), **dataset: dict[str, str]
) -> dict[str, str]:
    tasks = [{"name": uri, "uri": f"file://{uri}", "task": uri} for uri in suites]
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"uri": "file://model"},
            "dataset": {"train": {"uri": "file://rows.jsonl"}, **dataset},
            "evaluation": {"suites": tasks},
            "output": {"model": "tickets"},
        }
    )
    return fingerprint_job(spec, base=folder, cache=folder / ".cache", secrets=folder / ".secrets")


def test_every_source_of_the_job_has_one(job: Path) -> None:
    assert set(fingerprints(job)) == {"model", "dataset.train"}
    assert set(fingerprints(job, validation={"uri": "file://rows.jsonl"})) == {
        "model", "dataset.train", "dataset.validation",
    }  # fmt: skip


def test_one_byte_changes_the_fingerprint_of_its_source_alone(job: Path) -> None:
    before = fingerprints(job)
    (job / "rows.jsonl").write_text("onE")

    after = fingerprints(job)

    assert after["dataset.train"] != before["dataset.train"]
    assert after["model"] == before["model"]


def test_a_new_file_in_the_models_folder_changes_its_fingerprint(job: Path) -> None:
    before = fingerprints(job)
    (job / "model" / "chat_template.jinja").write_text("{{ messages }}")

    assert fingerprints(job)["model"] != before["model"]


def test_a_changed_file_of_a_suite_changes_its_fingerprint_alone(job: Path) -> None:
    for name in ("arc", "own"):
        (job / name / "data").mkdir(parents=True)
        (job / name / "data" / "rows.jsonl").write_text("one")
    before = fingerprints(job, suites=("arc", "own"))
    (job / "own" / "data" / "rows.jsonl").write_text("onE")

    after = fingerprints(job, suites=("arc", "own"))

    assert {path for path in after if after[path] != before[path]} == {"evaluation.suites[1]"}


def test_a_suite_is_a_folder(job: Path) -> None:
    with pytest.raises(SourceError, match="it is no folder"):
        fingerprints(job, suites=("rows.jsonl",))


def test_a_touched_file_keeps_its_fingerprint(job: Path) -> None:
    before = fingerprints(job)
    os.utime(job / "rows.jsonl")

    assert fingerprints(job) == before


def test_a_second_look_reads_nothing(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprints(job)
    monkeypatch.setattr(digest_cache, "digest_file", None)

    assert fingerprints(job) == before


def test_a_file_that_changed_a_moment_ago_is_read_again(job: Path) -> None:
    """It could change once more within one tick of the clock, and look the same."""
    path = job / "rows.jsonl"
    path.write_text("new")
    found = path.stat()
    before = fingerprints(job)
    with path.open("r+") as file:
        file.write("NEW")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert fingerprints(job) != before


def test_a_broken_note_is_passed_over(job: Path) -> None:
    before = fingerprints(job)
    for note in (job / ".cache" / "digests").iterdir():
        note.write_text("{")

    assert fingerprints(job) == before
