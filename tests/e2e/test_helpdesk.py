"""The helpdesk example, from its manifest to a published model: real model, data, Ray and vLLM."""

import json
import re
from pathlib import Path

import pytest
import yaml

from command import Ran, processes_of, tunesmith
from planted_strings import contents_below, leaks

STAGES = ["prepare", "train", "evaluate", "compress", "verify", "publish"]

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]


def test_the_job_completes_and_says_so_in_one_object(first: Ran) -> None:
    assert first.code == 0, first.stderr[-4000:]
    assert first.json["phase"] == "Succeeded"
    assert {each["type"]: each["status"] for each in first.json["conditions"]}["Complete"] == "True"
    assert [each["name"] for each in first.json["stages"]] == STAGES
    assert not any(first.cached().values())


def test_the_tuned_model_is_clearly_better_than_its_base_on_held_out_rows(first: Ran) -> None:
    loss = next(
        each
        for each in first.json["evaluation"]
        if (each["suite"], each["metric"], each["split"]) == ("heldOut", "loss", "tuned")
    )

    assert loss["value"] < loss["base"] - 0.1
    assert loss["low"] <= loss["value"] <= loss["high"]


def test_what_ships_is_what_was_judged(first: Ran, home: Path) -> None:
    """Every file of the published folder has the digest that its manifest records."""
    folder = home / "models" / "helpdesk"
    version = next(path for path in folder.iterdir() if path.is_dir())
    manifest = json.loads((version / "manifest.json").read_text())
    record = yaml.safe_load((version / "model-version.yaml").read_text())

    names = {path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()}
    assert record["kind"] == "ModelVersion"
    assert {"manifest.json"} | set(manifest["files"]) == names
    assert any(name.endswith(".safetensors") for name in names)
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


def test_no_row_is_told_or_published(first: Ran, home: Path) -> None:
    """Rows are in the artifacts of the job and, one of them, on its page; nowhere else."""
    (prepared,) = (home / "jobs/helpdesk/stages/prepare").glob("*/artifacts/data")
    rows = [*_sentences(prepared / "train.jsonl"), *_sentences(prepared / "validation.jsonl")]
    told = [
        *contents_below(home / "models" / "helpdesk"),
        *(
            (str(path), path.read_bytes())
            for name in ("result.json", "progress.json", "log.txt")
            for path in (home / "jobs/helpdesk").rglob(name)
        ),
        ("status", json.dumps(first.json).encode()),
        ("terminal", first.stderr.encode()),
    ]

    assert len(rows) >= 8
    assert leaks(told, rows) == []


def _sentences(rows: Path) -> list[str]:
    """What is long enough that no page has it by chance."""
    texts = re.findall(r'"content": ?"([^"\\]{30,})"', rows.read_text())
    return [text for text in texts if "helpful" not in text]


def test_the_report_is_one_page_that_fetches_nothing(first: Ran) -> None:
    page = Path(first.json["report"]).read_text()

    assert page.startswith(("<!DOCTYPE html>", "<!doctype html>"))
    assert "src=" not in page
    assert "<link" not in page


def test_nothing_of_a_finished_run_is_left_running(first: Ran, home: Path) -> None:
    assert processes_of(home) == []


def test_a_second_run_takes_everything_from_the_first(first: Ran, job: Path, home: Path) -> None:
    again = tunesmith("run", job, "--home", home, "--output", "json")

    assert again.code == 0, again.stderr[-4000:]
    assert all(again.cached().values())
    assert again.json["evaluation"] == first.json["evaluation"]


def test_another_scheme_reruns_compress_and_what_follows(
    first: Ran, job: Path, home: Path, tmp_path: Path
) -> None:
    manifest = yaml.safe_load(job.read_text())
    manifest["spec"]["compression"]["quantize"]["scheme"] = "none"
    changed = tmp_path / "job.yaml"
    changed.write_text(yaml.safe_dump(manifest))

    ran = tunesmith("run", changed, "--home", home, "--output", "json")

    assert ran.code == 0, ran.stderr[-4000:]
    assert ran.cached() == {name: STAGES.index(name) < 3 for name in STAGES}
