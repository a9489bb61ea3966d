"""What the report says of guessed tokens: how many were taken, and whether it was faster."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from job_folders import a_finished_job
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.page import render
from tunesmith_engine.stages.catalog import VERIFY

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GUESSING: dict[str, Any] = {
    "method": "draftModel",
    "tokens": 3,
    "guessed": 1200,
    "taken": 660,
    "acceptance": 0.55,
    "tokensPerPass": 2.65,
    "sameTokens": 639,
    "comparedTokens": 640,
    "requests": 8,
    "pays": False,
    "alone": {"guessing": [30.0, 31.0, 32.0], "plain": [24.0, 25.0, 26.0], "ratio": 1.24,
              "costOfGuess": 0.43},
    "together": {"guessing": [90.0, 95.0, 99.0], "plain": [98.0, 100.0, 101.0], "ratio": 0.95,
                 "costOfGuess": 1.2},
}  # fmt: skip


def page(home: Path, **guessing: Any) -> str:
    job = a_finished_job(home)
    (path,) = (job.folder / "stages" / VERIFY.name).glob("*/result.json")
    result = json.loads(path.read_text())
    result["facts"]["guessing"] = GUESSING | guessing
    path.write_text(json.dumps(result))
    return render(read_job_data(job.folder, job.status), now=NOW)


def test_counts_and_speeds_stand_beside_the_agreement(tmp_path: Path) -> None:
    text = page(tmp_path)

    assert "guessed tokens, 3 at a time by draftModel" in text
    assert "660 of 1,200 taken (55" in text
    assert "639 of 640" in text
    assert "31 (30 to 32), without 25 (24 to 26): 1.24 times" in text
    assert "tokens/s of 8 requests at once, guessing" in text


def test_what_has_to_be_taken_stands_there_unless_the_job_is_of_an_earlier_release(
    tmp_path: Path,
) -> None:
    text = page(tmp_path / "new")

    assert "guesses to be taken, to speed one request up" in text
    assert "more than 43" in text
    assert "not even all would do" in text
    rates = {key: value for key, value in GUESSING["alone"].items() if key != "costOfGuess"}
    assert "to be taken" not in page(tmp_path / "old", alone=rates, together=rates)


@pytest.mark.parametrize("pays", [True, False])
def test_what_does_not_pay_is_said(tmp_path: Path, *, pays: bool) -> None:
    assert ("does not pay in speed here" in page(tmp_path, pays=pays)) is not pays
