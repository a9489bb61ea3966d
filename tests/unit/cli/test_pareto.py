"""Size against loss of a ladder's models: which nothing beats, and what the report draws of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from job_folders import a_finished_job, add_stage
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.page import render
from tunesmith_cli.report.pareto import Candidate, undominated
from tunesmith_engine.stages.catalog import COMPRESS, DISTILL

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

SMALL = Candidate("W4A16", 80 << 20, 2.6)
MIDDLE = Candidate("W8A8", 150 << 20, 2.4, ships=True)
LARGE = Candidate("none", 270 << 20, 2.39)
BEATEN = Candidate("0.4 gone", 160 << 20, 2.7)


def test_a_model_that_is_larger_and_worse_than_another_is_beaten() -> None:
    assert undominated([LARGE, BEATEN, SMALL, MIDDLE]) == [SMALL, MIDDLE, LARGE]


def test_of_two_that_are_equally_large_the_better_stays() -> None:
    worse = Candidate("rtn", SMALL.size_bytes, 2.9)

    assert undominated([worse, SMALL]) == [SMALL]


def page(tmp_path: Path, *, schemes: list[Candidate], ratios: list[Candidate]) -> str:
    job = a_finished_job(tmp_path)
    tries: list[dict[str, Any]] = [
        {"scheme": each.label, "bytes": each.size_bytes, "losses": {"heldOut": each.loss}}
        for each in schemes
    ]
    tried = [{"ratio": 0.4, "bytes": each.size_bytes, "loss": each.loss} for each in ratios]
    add_stage(job, COMPRESS.name, facts={"scheme": "W8A8", "tries": tries})
    add_stage(job, DISTILL.name, facts={"tried": tried})
    return render(read_job_data(job.folder, job.status), now=NOW)


def test_the_report_draws_ratios_and_schemes_and_marks_what_ships(tmp_path: Path) -> None:
    text = page(tmp_path, schemes=[SMALL, MIDDLE, LARGE], ratios=[BEATEN])

    assert "W8A8: 150.0 MiB, loss 2.4, ships" in text
    assert "Beaten: 0.4 gone." in text


def test_of_one_scheme_nothing_is_drawn(tmp_path: Path) -> None:
    assert "Held-out loss against size" not in page(tmp_path, schemes=[MIDDLE], ratios=[])
