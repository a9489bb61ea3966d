"""The export stage as a process of the edge environment: every format of a tiny model."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import Prepared
from tuned_job import make_tuned_job, request_for
from tunesmith_api.finetunejob.export import PRECISIONS, Export
from tunesmith_engine.stages.catalog import EXPORT, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venvs/edge/bin/python"
ALL = [
    {"format": name, "precision": precision}
    for name, precisions in PRECISIONS.items()
    for precision in precisions
]

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON.exists(), reason="no edge environment; run: make setup-edge"),
]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


def run_stage(job: Path, attempt: Path, **export: Any) -> StageResult:
    return run_request(
        request_for(job, EXPORT.name, output=attempt / "artifacts", export=export), attempt
    )


def run_request(request: StageRequest, attempt: Path) -> StageResult:
    path = attempt / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))
    command = [str(PYTHON), "-m", "tunesmith_trainer", "export", str(path)]
    subprocess.run(command, cwd=attempt, env=os.environ, check=False, timeout=900)
    return StageResult.model_validate_json((attempt / "result.json").read_text())


@pytest.fixture(scope="module")
def exported(job: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, Path]:
    attempt = tmp_path_factory.mktemp("exported")
    result = run_stage(job, attempt, formats=ALL, gate={"maxLossRise": 1.0})
    assert result.outcome == "Succeeded", result.message
    return result, attempt / "artifacts"


def formats_of(result: StageResult) -> dict[str, Any]:
    told: Any = result.facts["formats"]
    return {each["name"]: each for each in told}


def test_every_format_is_written_run_and_measured(exported: tuple[StageResult, Path]) -> None:
    result, output = exported

    told = formats_of(result)
    assert list(told) == [f"{each['format']}-{each['precision']}" for each in ALL]
    for name, each in told.items():
        assert (
            sum(f.stat().st_size for f in (output / name).rglob("*") if f.is_file())
            == (each["bytes"])
        )
        assert each["tokensPerSecond"] > 0
        assert each["promptTokensPerSecond"] > 0
        assert each["peakMemoryBytes"] > 1 << 20
        assert each["digest"] == result.artifact(name).digest
    assert {each.split for each in result.evaluation} == set(told)


def test_onnx_in_fp32_says_what_transformers_says(exported: tuple[StageResult, Path]) -> None:
    told = formats_of(exported[0])["onnx-fp32"]

    assert told["agreedTokens"] == told["comparedTokens"] == 4 * 64
    assert told["loss"] == pytest.approx(told["tunedLoss"], abs=1e-4)


def test_llama_cpp_says_what_transformers_says_of_the_file(
    exported: tuple[StageResult, Path],
) -> None:
    told = formats_of(exported[0])["gguf-F16"]

    assert told["agreedTokens"] >= 0.5 * told["comparedTokens"]


def test_what_a_version_keeps_depends_on_no_clock(exported: tuple[StageResult, Path]) -> None:
    kept = json.loads((exported[1] / "exports.json").read_text())

    assert [each["name"] for each in kept] == list(formats_of(exported[0]))
    assert "tokensPerSecond" not in kept[0]
    assert "loss" in kept[0]


def test_the_example_answers_from_the_files_alone(
    exported: tuple[StageResult, Path], tmp_path: Path
) -> None:
    for name in ("onnx-int4", "gguf-Q8_0"):
        ran = subprocess.run(
            [str(PYTHON), str(exported[1] / name / "chat.py"), "--ask", "My screen stays dark."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        # A model of random weights may well answer with line breaks alone.
        assert ran.stdout


def test_a_target_that_cannot_be_met_is_refused(job: Path, tmp_path: Path) -> None:
    wanted = [{"format": "gguf", "precision": "F16"}]

    result = run_stage(job, tmp_path, formats=wanted, maxMemory="1Mi")

    assert (result.outcome, result.reason) == ("Failed", "ExportTargetMissed")
    assert "maxMemory: 1Mi" in result.message


def succeeded(stage: StageName, **artifacts: Path) -> StageResult:
    return StageResult(
        stage=stage, key="0" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.heavy
def test_the_135m_model_answers_alike_in_fp32_and_is_smaller_in_fewer_bits(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Its tokenizer splits digits, and its head is tied to its embedding."""
    # What four bits lose of so small a model is more than the default gate lets pass.
    settings = {"formats": ALL, "rows": 16, "gate": {"maxLossRise": 1.0}}
    spec = prepared.request.spec.model_copy(update={"export": Export.model_validate(settings)})
    output = tmp_path / "artifacts"
    output.mkdir()
    request = prepared.request.model_copy(
        update={
            "stage": EXPORT.name,
            "spec": spec,
            "inputs": {
                PREPARE.name: succeeded(PREPARE.name).model_copy(
                    update={"artifacts": prepared.outcome.artifacts}
                ),
                # Without training: what it says is as hard to keep.
                TRAIN.name: succeeded(TRAIN.name, tuned=prepared.model),
            },
            "output": str(output),
            "result": str(tmp_path / "result.json"),
        }
    )

    result = run_request(request, tmp_path)

    assert result.outcome == "Succeeded", result.message
    told = formats_of(result)
    assert not told["onnx-fp32"]["differs"]
    sizes = [told[name]["bytes"] for name in ("gguf-F16", "gguf-Q8_0", "gguf-Q4_0")]
    assert sizes == sorted(sizes, reverse=True)
    assert told["gguf-Q8_0"]["bytes"] < 0.6 * told["gguf-Q8_0"]["bf16Bytes"]
    rises = [told[name]["loss"] - told[name]["tunedLoss"] for name in ("gguf-Q8_0", "gguf-Q4_0")]
    assert abs(rises[0]) < 0.1
    assert rises[0] < rises[1] < 1.0
