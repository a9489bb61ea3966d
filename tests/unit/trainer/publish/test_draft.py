"""A small model that guesses, in a version: its files, their digests, and what the papers say."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.modelversion import ModelVersion
from tunesmith_engine.stages.catalog import DRAFT
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of, digest_file
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.publish.model_bill import BILL
from tunesmith_trainer.publish.stage import publish
from verified_job import SilentReporter, make_verified_job, publish_request, with_draft

FACTS: dict[str, Any] = {
    "shape": {
        "before": {"layers": 30, "channels": 1536, "kvHeads": 3, "tokens": 49_152},
        "after": {"layers": 6, "channels": 1536, "kvHeads": 3, "tokens": 49_152},
    },
    "ladder": [
        {"model": name, "parameters": 50 << 20, "bytes": 100 << 20,
         "losses": {"heldOut": loss}, "kl": 0.5}
        for name, loss in (("tuned", 2.0), ("pruned", 4.0), ("distilled", 2.5))
    ],
    "recovery": {"heldOut": 0.8},
    "numSteps": 120,
    "tokens": 43_000,
    "method": "full",
    "objective": "forwardKl",
    "logits": "full",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_verified_job(tmp_path / "job")


def request_with_draft(root: Path, **files: bytes) -> StageRequest:
    folder = root / DRAFT.name / "draft"
    folder.mkdir(parents=True)
    for name, content in {
        "model.safetensors": b"small" * 100,
        "config.json": b"{}",
        **files,
    }.items():
        (folder / name).write_bytes(content)
    document = folder.parent / "drafting.json"
    document.write_text(json.dumps({"settings": {"ratio": 0.8}}))
    result = StageResult(
        stage=DRAFT.name, key="9" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[artifact_of("draft", folder), artifact_of("drafting", document)],
        facts=FACTS, versions={"torch": "2.13.0"},
    )  # fmt: skip
    request = publish_request(root, output=root / "jobs" / "first" / "artifacts")
    return with_draft(request, result, tokens=4)


def test_it_lies_in_a_folder_of_its_own_with_digests_sizes_and_lineage(root: Path) -> None:
    request = request_with_draft(root)

    facts: dict[str, Any] = publish(request, SilentReporter()).facts

    record = ModelVersion.model_validate(facts["modelVersion"]).spec
    folder = Path(request.models) / "tickets" / record.version
    files = {file.name: file for file in record.files}
    weights = folder / "draft" / "model.safetensors"
    assert files["draft/model.safetensors"].digest == digest_file(weights)
    assert files["draft/model.safetensors"].bytes == 500
    # The served model's own are beside it, not replaced by it.
    assert (folder / "model.safetensors").read_bytes().startswith(b"weights")
    assert json.loads((folder / "draft.json").read_text())["settings"] == {"ratio": 0.8}
    speculative = json.loads((folder / "serving.json").read_text())["speculative"]
    assert speculative == {"method": "draftModel", "tokens": 4}
    assert record.lineage.stage_keys["draft"] == "9" * 64
    assert record.lineage.versions["draft/torch"] == "2.13.0"


def test_the_bill_names_it_and_the_card_says_what_it_is_and_how_to_serve_it(root: Path) -> None:
    request = request_with_draft(root)

    facts: dict[str, Any] = publish(request, SilentReporter()).facts

    version = facts["modelVersion"]["spec"]["version"]
    folder = Path(request.models) / "tickets" / version
    parts = {
        each["bom-ref"]: each for each in json.loads((folder / BILL).read_text())["components"]
    }
    digest = request.inputs[DRAFT.name].artifact("draft").digest
    assert parts["draft"]["hashes"][0]["content"] == digest.removeprefix("sha256:")
    card = (folder / "README.md").read_text()
    assert "Of the tuned model 6 of 30 layers were kept. Then 120 steps" in card
    assert '--speculative-config \'{"method": "draft_model", "model": "FOLDER/draft"' in card


def test_a_version_without_one_says_nothing_of_it(root: Path) -> None:
    request = publish_request(root, output=root / "jobs" / "first" / "artifacts")

    facts: dict[str, Any] = publish(request, SilentReporter()).facts

    folder = Path(request.models) / "tickets" / facts["modelVersion"]["spec"]["version"]
    assert not (folder / "draft").exists()
    assert "draft" not in (folder / "README.md").read_text()
    assert '"draft"' not in (folder / BILL).read_text()


def test_a_file_in_it_that_can_run_code_is_published_no_more_than_another(root: Path) -> None:
    request = request_with_draft(root, **{"modeling.py": b"import os"})

    with pytest.raises(VerdictError, match=r"modeling\.py, which can run code"):
        publish(request, SilentReporter())
