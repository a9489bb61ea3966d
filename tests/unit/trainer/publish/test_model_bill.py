"""The bill of materials of a version."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.digests import path_of
from tunesmith_trainer.publish.model_bill import BILL
from tunesmith_trainer.publish.stage import publish
from verified_job import SilentReporter, make_verified_job, publish_request


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_verified_job(tmp_path / "job")


def bill_of(root: Path, **versions: str) -> dict[str, Any]:
    request = publish_request(root, output=root / "attempt")
    told = {**request.inputs[TRAIN.name].versions, **versions}
    trained = request.inputs[TRAIN.name].model_copy(update={"versions": told})
    inputs = {**request.inputs, TRAIN.name: trained}
    outcome = publish(request.model_copy(update={"inputs": inputs}), SilentReporter())
    text = (path_of(outcome.artifacts[0].uri) / BILL).read_text()
    bill: dict[str, Any] = json.loads(text)
    return bill


def parts_of(bill: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["bom-ref"]: part for part in bill["components"]}


def test_base_data_and_libraries_are_named_with_what_proves_them(root: Path) -> None:
    bill = bill_of(root)
    parts = parts_of(bill)

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "tickets"
    assert parts["base"]["name"] == "hf://acme/base"
    assert parts["base"]["version"] == f"sha256:{'b' * 64}"
    assert parts["base"]["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert parts["data/train/0"]["hashes"][0]["content"] == "e" * 64
    assert parts["data/train/0"]["data"][0]["contents"] == {"url": "file://rows.jsonl"}
    assert parts["data/prepared"]["hashes"][0]["content"] == "d" * 64
    torch = parts["pkg:pypi/torch@2.13.0"]
    assert {"name": "tunesmith:stage", "value": "train"} in torch["properties"]
    assert bill["dependencies"] == [{"ref": "model", "dependsOn": sorted(parts)}]


def test_a_library_has_its_licence_where_this_environment_has_that_very_version(
    root: Path,
) -> None:
    parts = parts_of(bill_of(root, tunesmith=version("tunesmith"), numpy="0.0.1"))

    here = parts[f"pkg:pypi/tunesmith@{version('tunesmith')}"]
    assert here["licenses"] == [{"expression": "Apache-2.0"}]
    assert "licenses" not in parts["pkg:pypi/numpy@0.0.1"]


@pytest.mark.parametrize(
    ("card", "licences"),
    [
        (
            "---\nlanguage: en\nlicense: apache-2.0\n---\n# Base",
            [{"license": {"id": "Apache-2.0"}}],
        ),
        ("---\r\nlicense: llama3.2\r\n---\r\n", [{"license": {"name": "llama3.2"}}]),
        ("# Base\n\nlicense: mit\n", None),
        ("---\nlicense: mit", None),
        ("---\nlicense: [a, b]\n---\n", None),
    ],
)
def test_the_licence_is_what_the_card_of_the_base_says(
    root: Path, card: str, licences: list[Any] | None
) -> None:
    (root / PREPARE.name / "model" / "README.md").write_bytes(card.encode())

    assert parts_of(bill_of(root))["base"].get("licenses") == licences
