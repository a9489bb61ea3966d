"""Formats for devices in a version: their files, their digests, and what card and record say."""

import json
from pathlib import Path
from typing import Any

import pytest

from exported import exported_format
from tunesmith_api.finetunejob.export import MAX_FORMATS, PRECISIONS
from tunesmith_api.modelversion import ModelVersion
from tunesmith_api.results import ExportedFormat
from tunesmith_engine.stages.catalog import EXPORT
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of, digest_file
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.export.writers import EXAMPLE, example_of
from tunesmith_trainer.publish.stage import publish
from verified_job import SilentReporter, make_verified_job, publish_request

INT4 = exported_format()
FP32 = exported_format(
    name="onnx-fp32", precision="fp32", path="exports/onnx-fp32", bytes=520 << 20
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_verified_job(tmp_path / "job")


def request_with(root: Path, *formats: ExportedFormat, attempt: str = "first") -> StageRequest:
    folder = root / EXPORT.name
    for each in formats:
        (folder / each.name).mkdir(parents=True, exist_ok=True)
        (folder / each.name / "model.onnx").write_bytes(each.name.encode())
        (folder / each.name / EXAMPLE).write_bytes(example_of(each.format))
    kept = [each.without_timing().model_dump(mode="json", exclude_none=True) for each in formats]
    (folder / "exports.json").write_text(json.dumps(kept))
    result = StageResult(
        stage=EXPORT.name, key="9" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[
            artifact_of("exports", folder / "exports.json"),
            *(artifact_of(each.name, folder / each.name) for each in formats),
        ],
        facts={"formats": [each.model_dump(mode="json", by_alias=True) for each in formats]},
    )  # fmt: skip
    request = publish_request(root, output=root / "jobs" / attempt / "artifacts")
    return request.model_copy(update={"inputs": {**request.inputs, EXPORT.name: result}})


def version_of(request: StageRequest) -> tuple[Path, ModelVersion]:
    facts: dict[str, Any] = publish(request, SilentReporter()).facts
    record = ModelVersion.model_validate(facts["modelVersion"])
    return Path(request.models) / "tickets" / record.spec.version, record


def test_the_files_of_each_format_are_in_the_version_with_their_digests(root: Path) -> None:
    folder, record = version_of(request_with(root, INT4, FP32))

    digests = {file.name: file.digest for file in record.spec.files}
    for name in ("onnx-int4", "onnx-fp32"):
        for file in ("model.onnx", EXAMPLE):
            path = folder / "exports" / name / file
            assert digests[f"exports/{name}/{file}"] == digest_file(path)
    assert (folder / "exports" / "onnx-int4" / EXAMPLE).read_bytes() == example_of("onnx")


def test_a_record_holds_every_format_that_a_job_can_ask_for(root: Path) -> None:
    every = [
        exported_format(name=f"{name}-{precision}", format=name, precision=precision)
        for name, precisions in PRECISIONS.items()
        for precision in precisions
    ]

    _, record = version_of(request_with(root, *every))

    assert len(record.spec.exports) == len(every) == MAX_FORMATS


def test_the_record_says_what_was_measured(root: Path) -> None:
    _, record = version_of(request_with(root, INT4))

    assert record.spec.exports == [INT4]


def test_the_card_says_what_each_format_keeps_and_which_is_larger(root: Path) -> None:
    folder, _ = version_of(request_with(root, INT4, FP32))

    card = (folder / "README.md").read_text()
    assert "| `exports/onnx-int4` | 90 | 2.1 | +0.1000 | 0.2 | 100 of 256 |" in card
    assert "Larger than the model in bf16 (256 MiB): `exports/onnx-fp32`." in card


def test_another_speed_is_no_other_version(root: Path) -> None:
    _, first = version_of(request_with(root, INT4))
    faster = INT4.model_copy(update={"tokens_per_second": 99.0, "peak_memory_bytes": 1})

    _, second = version_of(request_with(root, faster, attempt="second"))

    assert first.spec.digest == second.spec.digest


def test_a_changed_example_is_not_published(root: Path) -> None:
    request = request_with(root, INT4)
    (root / EXPORT.name / "onnx-int4" / EXAMPLE).write_text("import os")

    with pytest.raises(VerdictError, match=r"onnx-int4/chat\.py was changed"):
        publish(request, SilentReporter())


def test_other_programs_in_a_format_are_not_published(root: Path) -> None:
    request = request_with(root, INT4)
    (root / EXPORT.name / "onnx-int4" / "setup.py").write_text("import os")

    with pytest.raises(VerdictError, match="can run code"):
        publish(request, SilentReporter())
