"""What is published of a job that publishes its adapter: alone, or beside the merged model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.modelversion import ModelVersion, ModelVersionSpec
from tunesmith_engine.sources.adapter_version import AdapterRecord
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest
from tunesmith_engine.stages.catalog import COMPRESS, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.digests import path_of
from tunesmith_trainer.publish.stage import publish
from verified_job import SilentReporter, make_verified_job, publish_request

FILES = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job with an adapter, on a base that came with files for people and for pickle."""
    root = make_verified_job(tmp_path / "job")
    tuned = root / TRAIN.name / "tuned"
    tuned.mkdir(parents=True)
    for name in FILES:
        (tuned / Path(name).name).write_text("{}")
    base = root / PREPARE.name / "model"
    for name in ("model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin"):
        (base / name).write_text("x")
    return root


def published(job: Path, tmp_path: Path, artifact: str, **output: Any) -> ModelVersionSpec:
    request = publish_request(job, output=tmp_path / "output", artifact=artifact, **output)
    outcome = publish(request, SilentReporter())
    return ModelVersion.model_validate(outcome.facts["modelVersion"]).spec


def names_of(folder: Path) -> set[str]:
    return set(VersionManifest.model_validate_json((folder / MANIFEST).read_bytes()).files)


def test_an_adapter_alone_is_published_without_the_model(job: Path, tmp_path: Path) -> None:
    version = published(job, tmp_path, "adapter")
    names = names_of(path_of(version.uri))

    assert version.scheme == "adapter"
    assert names > {*FILES, "adapter.json", "fingerprints.json", "README.md"}
    # What vLLM's server would take for a model of its own.
    assert not {"model.safetensors", "config.json", "serving.json"} & names
    assert "--enable-lora" in (path_of(version.uri) / "README.md").read_text()


def test_beside_the_merged_model_both_have_fingerprints(job: Path, tmp_path: Path) -> None:
    for name in ("adapterParity", "adapterFingerprints"):
        (job / VERIFY.name / f"{name}.json").write_text("{}")
    version = published(job, tmp_path, "both")
    names = names_of(path_of(version.uri))

    assert version.scheme == "W8A8"
    assert names > {*FILES, "model.safetensors", "serving.json", "adapter-fingerprints.json"}


def test_a_merged_model_is_published_as_before(job: Path, tmp_path: Path) -> None:
    version = published(job, tmp_path, "merged")

    assert version.adapter is None
    assert not {"adapter.json", *FILES} & names_of(path_of(version.uri))
    assert not (job / "models" / "tickets" / "bases").exists()


def test_the_base_lies_beside_the_versions_and_is_named_by_digest(
    job: Path, tmp_path: Path
) -> None:
    adapter = published(job, tmp_path, "adapter").adapter

    assert adapter is not None
    base = path_of(adapter.base_uri)
    manifest = VersionManifest.model_validate_json((base / MANIFEST).read_bytes())
    assert base.parent == job / "models" / "tickets" / "bases"
    assert adapter.base_digest == manifest.digest()
    assert set(manifest.files) == {
        "config.json",
        "model.safetensors",
        "serving.json",
        "tokenizer.json",
    }
    assert adapter.base_bytes == sum(file.bytes for file in manifest.files.values())
    version = next(job.glob("models/tickets/*/adapter.json"))
    record = AdapterRecord.model_validate_json(version.read_bytes())
    assert (record.base_digest, record.rank) == (adapter.base_digest, adapter.rank)


def test_what_is_written_beside_a_base_is_not_written_into_the_model(
    job: Path, tmp_path: Path
) -> None:
    """It is linked, not copied: files of the same names were overwritten where they came from."""
    model = job / PREPARE.name / "model"
    for name in (MANIFEST, "serving.json"):
        (model / name).write_text("theirs")

    published(job, tmp_path, "adapter")

    assert (model / MANIFEST).read_text() == (model / "serving.json").read_text() == "theirs"


def test_another_adapter_finds_the_base_there(job: Path, tmp_path: Path) -> None:
    first = published(job, tmp_path, "adapter")
    (job / TRAIN.name / "tuned" / "adapter_model.safetensors").write_text("others")
    second = published(job, tmp_path, "adapter")

    assert first.digest != second.digest
    assert first.adapter == second.adapter
    assert len(list(job.glob("models/tickets/bases/[0-9a-f]*"))) == 1


def test_a_base_that_was_changed_is_not_built_upon(job: Path, tmp_path: Path) -> None:
    version = published(job, tmp_path, "adapter")
    assert version.adapter is not None
    (path_of(version.adapter.base_uri) / "config.json").write_text(json.dumps({"other": 1}))
    (job / COMPRESS.name / "compressed" / "config.json").write_text("{}")

    with pytest.raises(Exception, match="has changed since"):
        published(job, tmp_path, "adapter")
