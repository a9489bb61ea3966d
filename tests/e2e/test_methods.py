"""Jobs that learn otherwise than the example: from rows the base made up, or on a published one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import Ran, tunesmith

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]


def test_rows_that_the_base_model_made_up_are_learnt_beside_the_own(
    job: Path, home: Path, tmp_path: Path
) -> None:
    replay = {"ratio": 0.25, "selfSynthesis": {"rows": 16, "maxNewTokens": 16}}

    ran = _run(job, home, tmp_path, name="replay", until="train", dataset={"replay": replay})

    assert ran.code == 0, ran.stderr[-4000:]
    assert [stage["name"] for stage in ran.json["stages"] if stage["state"] == "Succeeded"] == [
        "prepare",
        "rehearse",
        "train",
    ]
    (remedy,) = [row for row in _facts(ran, home, "train")["remedies"] if "replay" in row["remedy"]]
    assert remedy["effect"]


@pytest.mark.long
def test_rows_that_the_base_model_wrote_in_vllm_are_trained_on(
    job: Path, home: Path, tmp_path: Path
) -> None:
    synthesis = {
        "ratio": 1.0,
        "methods": ["selfInstruct", "evolve"],
        "maxNewTokens": 64,
        # So small a model gives no score that can be read.
        "critic": {"minScore": 1},
    }

    ran = _run(job, home, tmp_path, name="written", until="train", dataset={"synthesis": synthesis})

    assert ran.code == 0, ran.stderr[-4000:]
    facts = _facts(ran, home, "synthesize")
    assert sum(facts["rowsByGenerator"].values()) == facts["numRows"] > 0


@pytest.mark.long
def test_a_published_version_is_continued_and_published(
    job: Path, home: Path, tmp_path: Path
) -> None:
    parent = _run(job, home, tmp_path, name="parent", compression={"quantize": {"scheme": "none"}})
    assert parent.code == 0, parent.stderr[-4000:]
    version = _version(home, "parent")

    child = _run(job, home, tmp_path, name="child", model={"uri": version.as_uri()})

    assert child.code == 0, child.stderr[-4000:]
    record = yaml.safe_load((_version(home, "child") / "model-version.yaml").read_text())
    assert version.name in json.dumps(record)


def _run(
    job: Path, home: Path, folder: Path, *, name: str, until: str | None = None, **spec: Any
) -> Ran:
    """The example under another name, of two steps, without gates; `spec` replaces its parts."""
    manifest = yaml.safe_load(job.read_text())
    manifest["metadata"]["name"] = name
    known = manifest["spec"]
    del known["training"]["epochs"]
    known["training"]["maxSteps"] = 2
    known["evaluation"]["gates"] = []
    known["output"] = {"model": name}
    for field, value in spec.items():
        known[field] = {**known[field], **value}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(manifest))
    ending = ("--until", until) if until else ()
    return tunesmith("run", path, "--home", home, *ending, "--output", "json", timeout_s=1200)


def _facts(ran: Ran, home: Path, stage: str) -> dict[str, Any]:
    (key,) = [row["key"] for row in ran.json["stages"] if row["name"] == stage]
    name = ran.json["job"]
    path = home / "jobs" / name / "stages" / stage / key[:16] / "result.json"
    facts: dict[str, Any] = json.loads(path.read_text())["facts"]
    return facts


def _version(home: Path, model: str) -> Path:
    (version,) = [path for path in (home / "models" / model).iterdir() if path.is_dir()]
    return version
