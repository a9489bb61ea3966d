"""`compare`: what differs between two jobs, and whether it can be told from chance."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from compared_jobs import NUM_ROWS, two_jobs
from job_folders import a_failed_job, a_finished_job, a_running_job
from tunesmith_cli.commands.compare import comparison_as_text
from tunesmith_cli.inputs import find_job
from tunesmith_cli.main import main
from tunesmith_cli.report.artifacts import RowScores
from tunesmith_cli.report.comparison import Comparison, MeasureRow
from tunesmith_cli.report.comparison_page import render_comparison
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.paired_scores import paired_difference


def compared(home: Path, first: str, second: str) -> Comparison:
    jobs = (find_job(name, root=home) for name in (first, second))
    return Comparison(*(read_job_data(job.folder, job.status) for job in jobs))


def held_out(comparison: Comparison) -> MeasureRow:
    return next(
        row
        for row in comparison.measures
        if (row.label, row.named.split) == ("Held-out rows: loss", "tuned")
    )


def scores(rows: list[str], tuned: list[float], *, weights: list[float] | None = None) -> RowScores:
    given = weights or [1.0] * len(rows)
    return RowScores(
        suite="heldOut", metric="loss", rows=rows, weights=given, base=tuned, tuned=tuned
    )


def test_rows_are_paired_by_their_digests_whatever_their_order(tmp_path: Path) -> None:
    row = held_out(compared(tmp_path, *two_jobs(tmp_path)))

    assert row.difference is not None
    assert row.difference.num_rows == NUM_ROWS
    assert row.difference.value == pytest.approx(row.plain_difference)
    assert row.difference.low is not None
    assert row.difference.high is not None
    # Each model's own interval is 0.8 wide, and says nothing of a difference of 0.05.
    assert 0.03 < row.difference.low < 0.05 < row.difference.high < 0.07
    assert row.verdict == "worse"


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [(0.05, "worse"), (-0.05, "better"), (0.0, "no difference beyond chance")],
)
def test_a_difference_is_called_what_it_shows(gap: float, verdict: str, tmp_path: Path) -> None:
    assert held_out(compared(tmp_path, *two_jobs(tmp_path, gap=gap))).verdict == verdict


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 pairs of jobs whose models are equally good, about 5 % seem to differ."""
    random = np.random.default_rng(3)
    rows = [str(index) for index in range(40)]
    missed = 0
    for _ in range(200):
        first = random.gamma(3.0, 0.8, len(rows))
        second = first + random.normal(0.0, 0.1, len(rows))
        found = paired_difference(scores(rows, first.tolist()), scores(rows, second.tolist()))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        missed += not found.low <= 0.0 <= found.high
    assert 2 <= missed <= 24


def test_only_rows_that_both_have_are_paired_and_that_is_said(tmp_path: Path) -> None:
    comparison = compared(tmp_path, *two_jobs(tmp_path, num_shared=45))

    difference = held_out(comparison).difference
    assert difference is not None
    assert difference.num_rows == 45
    assert "paired over the 45 rows that both jobs have, of 60" in " ".join(comparison.notes)


def test_a_row_that_occurs_twice_is_paired_as_often_as_both_have_it() -> None:
    first = scores(["a", "a", "b", "c"], [1.0, 2.0, 3.0, 4.0])
    second = scores(["b", "a", "a", "a"], [3.5, 1.5, 2.5, 9.0])

    found = paired_difference(first, second)

    assert found is not None
    assert found.num_rows == 3
    assert found.value == pytest.approx(0.5)


def test_jobs_without_a_row_in_common_are_not_paired(tmp_path: Path) -> None:
    comparison = compared(tmp_path, *two_jobs(tmp_path, num_shared=0))

    assert held_out(comparison).verdict == "not paired"
    assert comparison.notes[0].startswith("Not paired:")
    assert paired_difference(scores(["a"], [1.0]), scores(["b"], [1.0])) is None


def test_one_row_shows_nothing(tmp_path: Path) -> None:
    found = paired_difference(scores(["a"], [1.0]), scores(["a"], [9.0]))

    assert found is not None
    assert (found.low, found.high, found.interval) == (None, None, "")


def test_the_terminal_gets_settings_curves_evaluation_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_jobs(tmp_path)

    assert main(["compare", "first", "second", "--home", str(tmp_path)]) == 0

    text = capsys.readouterr().out
    assert re.search(r"^training.optimizer.learningRate +0.0002 +0.0005$", text, re.MULTILINE)
    assert re.search(r"^Held-out loss +second +3.8 +2.435 +2.441 +█", text, re.MULTILINE)
    assert re.search(r"^Held-out rows: loss +tuned.*\+0.05\d* .*worse$", text, re.MULTILINE)
    assert re.search(r"^training tokens per second +312 +312$", text, re.MULTILINE)


def test_the_same_as_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_jobs(tmp_path)

    assert main(["compare", "first", "second", "--home", str(tmp_path), "--output", "json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["settings"] == [
        {"path": "training.optimizer.learningRate", "first": "0.0002", "second": "0.0005"}
    ]
    measure = told["evaluation"][0]
    assert (measure["suite"], measure["metric"], measure["shows"]) == ("heldOut", "loss", "worse")
    assert measure["paired"]["rows"] == NUM_ROWS
    assert len(told["curves"]["heldOut"]["first"]) == 11


def test_jobs_that_have_not_come_far_are_compared_as_far_as_they_are(tmp_path: Path) -> None:
    a_running_job(tmp_path)
    a_failed_job(tmp_path)

    comparison = compared(tmp_path, "running", "refused")

    assert "Held-out loss  running" in comparison_as_text(comparison)
    assert all(row.verdict == "" for row in comparison.measures)


def test_the_page_is_complete_in_itself(tmp_path: Path) -> None:
    two_jobs(tmp_path / "home")
    page = tmp_path / "out/page.html"

    code = main(
        ["compare", "first", "second", "--home", str(tmp_path / "home"), "--html", str(page)]
    )

    text = page.read_text()
    assert code == 0
    assert text.startswith("<!DOCTYPE html>")
    assert "second is worse in Held-out rows: loss (tuned): +0.0497" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert text.count("<svg") >= 4


def test_names_of_settings_and_values_become_text(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path, name="hostile")
    a_finished_job(tmp_path, name="plain")
    resolved = {"training.<script>": "<img src=x onerror=1>"}
    job.status = job.status.model_copy(update={"resolved": resolved})
    job.write()

    page = render_comparison(
        compared(tmp_path, "hostile", "plain"), now=datetime(2026, 11, 27, tzinfo=UTC)
    )

    assert "<img" not in page
    assert "<script" not in page


def test_an_unknown_job_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_finished_job(tmp_path)

    assert main(["compare", "helpdesk", "helpdsk", "--home", str(tmp_path)]) == 2
    assert "did you mean 'helpdesk'?" in capsys.readouterr().err
