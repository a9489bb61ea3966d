"""From a manifest with preference rows to a compressed model: each stage a process, two layers."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import write_jsonl
from small_models import make_tiny_model
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.catalog import CATALOG, COMPRESS, EVALUATE, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult

ROOT = Path(__file__).parents[2]
STAGES = (PREPARE, TRAIN, EVALUATE, COMPRESS)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(2400)]


def _pairs() -> Iterator[dict[str, str]]:
    """Friendly answers are chosen, curt ones are not."""
    for number in range(40):
        yield {
            "prompt": f"Screen {number} is dark.",
            "chosen": f"I am sorry. Please turn screen {number} off and on.",
            "rejected": f"So? Buy a new one. {number}",
        }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[StageName, StageResult]:
    root = tmp_path_factory.mktemp("preferences")
    write_jsonl(root / "pairs.jsonl", list(_pairs()))
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"uri": make_tiny_model(root / "tiny").as_uri()},
            "dataset": {"train": {"uri": "file://pairs.jsonl"}, "validationFraction": 0.25},
            "training": {
                "objective": "dpo",
                "maxSteps": 20,
                "batch": {"size": 8, "microBatchSize": 8},
                "optimizer": {"learningRate": 5e-3},
                "sequenceLength": 128,
            },
            "evaluation": {"generation": {"metric": "none"}},
            "compression": {"gate": {"minRecovery": 0.5}},
            "verification": {"prompts": 2, "maxNewTokens": 4},
            "output": {"model": "tiny"},
        }
    ).with_defaults()
    results: dict[StageName, StageResult] = {}
    for stage in STAGES:
        inputs = {name: results[name] for name in stage.reads if name in results}
        results[stage.name] = _run(root, stage.name, spec=spec, inputs=inputs)
    return results


def test_the_format_is_detected_and_the_margin_rises(
    results: dict[StageName, StageResult],
) -> None:
    facts: Any = results[TRAIN.name].facts

    assert results[PREPARE.name].facts["format"] == "preference"
    assert facts["bestHeldOutLoss"] < 0.69
    assert facts["preference"]["margin"] > 0.0
    assert facts["preference"]["accuracy"] > 0.5


def test_evaluation_finds_the_margin_that_training_measured(
    results: dict[StageName, StageResult],
) -> None:
    facts: Any = results[TRAIN.name].facts
    found = {
        result.metric: result
        for result in results[EVALUATE.name].evaluation
        if result.suite == "preference"
    }

    # Training computes in bf16 where the processor does.
    assert found["margin"].value == pytest.approx(facts["preference"]["margin"], rel=0.1)
    assert found["margin"].low is not None
    assert found["margin"].low > 0.0
    assert found["accuracy"].base == 0.5


def test_the_tuned_model_is_compressed_as_any_other(
    results: dict[StageName, StageResult],
) -> None:
    assert results[COMPRESS.name].facts["scheme"] == "W8A8"
    assert {result.suite for result in results[COMPRESS.name].evaluation} == {"heldOut", "general"}


def _run(
    root: Path, stage: StageName, *, spec: FineTuneJobSpec, inputs: dict[StageName, StageResult]
) -> StageResult:
    folder = root / stage
    (folder / "artifacts").mkdir(parents=True)
    request = StageRequest(
        job="tiny",
        stage=stage,
        key="0" * 64,
        attempt=1,
        spec=spec,
        inputs=inputs,
        output=str(folder / "artifacts"),
        report=str(folder / "progress.json"),
        result=str(folder / "result.json"),
        base=str(root),
        cache=str(root / "cache"),
        secrets=str(root / "secrets"),
        models=str(root / "models"),
    )
    (folder / "request.json").write_text(request.model_dump_json(by_alias=True))
    python = ROOT / ".venvs" / CATALOG[stage].environment / "bin/python"
    command = [str(python), "-m", "tunesmith_trainer", stage, str(folder / "request.json")]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=one_thread, check=False, timeout=900)
    result = StageResult.model_validate_json((folder / "result.json").read_text())
    assert result.outcome == "Succeeded", json.dumps(result.message)
    return result
