"""The distill stage on the 135M model, and a pruned model of every axis in vLLM."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import make_architecture
from prepare_stage import Prepared, SilentReporter, result_of
from tuned_job import make_tuned_job, request_for
from tunesmith_engine.stages.catalog import COMPRESS, DISTILL, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_trainer.distill.stage import distill
from tunesmith_trainer.models import load_model

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(1800)


def trained_as_it_is(prepared: Prepared, output: Path, **prune: Any) -> StageRequest:
    """A job whose training changed nothing: the base is what is pruned."""
    general = output.parent / "general.txt"
    general.write_text("The sun rises in the east.\n\nWater boils at a hundred degrees.\n")
    tuned = StageResult(
        stage=TRAIN.name, key="0" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[artifact_of("tuned", prepared.model)],
    )  # fmt: skip
    spec = prepared.request.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    spec |= {
        "training": {"sequenceLength": 256, "batch": {"size": 4}},
        "evaluation": {"generalText": {"uri": general.as_uri()}},
        "compression": {"prune": prune},
    }
    output.mkdir(parents=True)
    return prepared.request.model_copy(
        update={
            "stage": DISTILL.name,
            "spec": type(prepared.request.spec).model_validate(spec).with_defaults(),
            "inputs": {PREPARE.name: result_of(prepared.outcome), TRAIN.name: tuned},
            "output": str(output),
        }
    )


def test_a_fifth_of_the_layers_of_the_135m_model_goes_and_some_of_it_comes_back(
    prepared: Prepared, tmp_path: Path
) -> None:
    request = trained_as_it_is(
        prepared,
        tmp_path / "artifacts",
        calibrationRows=4,
        recovery={"maxSteps": 8, "learningRate": 3e-5},
        gate={"minRecovery": 0.01},
    )

    outcome = distill(request, SilentReporter())

    ladder: Any = outcome.facts["ladder"]
    tuned, pruned, recovered = (rung["losses"]["heldOut"] for rung in ladder)
    # Of the few rows here a smaller model may be the better one.
    assert max(tuned, recovered) < pruned
    assert ladder[2]["kl"] < ladder[1]["kl"]
    # 30 layers of 3,540,096 parameters, and embeddings that stay.
    assert ladder[0]["parameters"] - ladder[2]["parameters"] == 6 * 3_540_096
    model = load_model(tmp_path / "artifacts" / "distilled", dtype=torch.float32)
    assert model.config.num_hidden_layers == 24


@pytest.mark.long
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM"])
def test_vllm_loads_what_was_pruned_along_every_axis_and_agrees(name: str, tmp_path: Path) -> None:
    job = make_tuned_job(tmp_path, make_model=lambda folder: make_wide(name, folder))
    request = request_for(
        job,
        DISTILL.name,
        output=job / "distill" / "artifacts",
        compression={
            "prune": {
                "axes": ["layers", "channels", "heads"],
                "ratio": 0.5,
                "recovery": {"maxSteps": 2},
                "gate": {"minRecovery": 0.01},
            },
            "quantize": {"scheme": "none"},
        },
        training={"sequenceLength": 256, "batch": {"size": 2}},
        verification={"prompts": 4, "maxNewTokens": 16},
        serving={"maxModelLength": 256},
    )
    outcome = distill(request, SilentReporter())
    inputs = {**request.inputs, DISTILL.name: as_result(DISTILL.name, outcome)}
    compressed = in_process("compressor", following(request, COMPRESS.name, inputs, job))

    inputs |= {COMPRESS.name: compressed}
    verified = in_process("server", following(request, VERIFY.name, inputs, job))

    assert verified.facts["agreement"] == 1.0
    shape: Any = outcome.facts["shape"]
    # Every axis but the tokens, which it was not to cut.
    cut = {"layers": 1, "channels": 128, "kvHeads": 1}
    assert shape["after"] == shape["before"] | cut


def make_wide(name: str, folder: Path) -> Path:
    """Two heads of keys, so that one can go."""
    import transformers

    make_architecture(name, folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_attention_heads, config.num_key_value_heads = 4, 2
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def as_result(stage: str, outcome: Any) -> StageResult:
    return StageResult(
        stage=stage, key="0" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=outcome.artifacts, evaluation=outcome.evaluation, facts=outcome.facts,
    )  # fmt: skip


def following(
    request: StageRequest, stage: str, inputs: dict[str, StageResult], job: Path
) -> StageRequest:
    output = job / stage / "artifacts"
    output.mkdir(parents=True)
    return request.model_copy(
        update={
            "stage": stage,
            "inputs": inputs,
            "output": str(output),
            "report": str(output.parent / "progress.json"),
            "result": str(output.parent / "result.json"),
        }
    )


def in_process(environment: str, request: StageRequest) -> StageResult:
    """What the stage finds in the environment that has its libraries."""
    package = "tunesmith_serving" if environment == "server" else "tunesmith_trainer"
    path = Path(request.output).parent / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))
    command = [
        str(ROOT / f".venvs/{environment}/bin/python"),
        "-m",
        package,
        request.stage,
        str(path),
    ]
    subprocess.run(command, cwd=path.parent, env=dict(os.environ), check=False, timeout=900)
    told = json.loads(Path(request.result).read_text())
    result = StageResult.model_validate(told)
    assert result.outcome == "Succeeded", result.message
    return result
