"""What docs/reference/architectures.md says of each architecture, tried on two random layers."""

import os
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import ARCHITECTURES, make_architecture
from small_runs import ALONE, a_loop, a_train_config, random_rows
from tuned_job import make_tuned_job, request_for
from tunesmith_engine.stages.catalog import COMPRESS, VERIFY
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_trainer.compress.merge import save_merged
from tunesmith_trainer.devices import CPU
from tunesmith_trainer.models import load_model, merged_model
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.loop import autocast
from tunesmith_trainer.train.packing_choice import PackingDecision, decide_packing

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "architectures.md"
BUILT = ROOT / "build" / "architectures.md"
IN_TURN = ROOT / "tests" / "support" / "stages_in_turn.py"
SCHEMES = ("W8A8", "W4A16")
Results = Mapping[tuple[str, str], StageResult]

pytestmark = pytest.mark.timeout(5400)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_adapters_are_trained_and_merged_without_a_difference(
    name: str, tmp_path: Path
) -> None:
    base = make_architecture(name, tmp_path / "base")
    training = {
        "packing": "bfd",
        "precision": "fp32",
        "maxSteps": 6,
        "optimizer": {"learningRate": 1e-2},
        "lora": {"rank": 4},
    }
    config = a_train_config(training=training)
    model = build_trainable(base, config=config, device=CPU)

    packing = _packing(model, config, tmp_path)
    history = a_loop(model, config=config, folder=tmp_path / "checkpoints").run()
    tuned = export_tuned(model, base=base, base_uri=f"file://{base}", output=tmp_path)
    merged = merged_model(base, adapter=tuned)

    assert packing.proof is not None
    assert packing.proof.holds
    held_out = [point["loss"] for point in history.points if point["kind"] == "heldOut"]
    assert float(str(held_out[-1])) < float(str(held_out[0]))
    torch.testing.assert_close(_logprobs(merged), _logprobs(model.eval()), atol=1e-4, rtol=1e-4)
    save_merged(merged, tmp_path / "merged", tokenizer_folder=base)
    again = load_model(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(_logprobs(again), _logprobs(model), atol=0.1, rtol=0.0)


def _packing(model: Any, config: Any, folder: Path) -> PackingDecision:
    return decide_packing(
        model,
        config=config,
        tokens=random_rows(24),
        group=ALONE,
        autocast=partial(autocast, CPU, precision=config.precision),
        folder=folder,
    )


@torch.inference_mode()
def _logprobs(model: Any) -> torch.Tensor:
    ids = torch.arange(1, 33)[None]
    return model(input_ids=ids).logits[0].float().log_softmax(-1)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every architecture in every scheme."""
    requests = {}
    for name in ARCHITECTURES:
        make_model = partial(make_architecture, name)
        job = make_tuned_job(tmp_path_factory.mktemp(name), make_model=make_model)
        for scheme in SCHEMES:
            requests[name, scheme] = request_for(
                job,
                COMPRESS.name,
                output=job / scheme / "artifacts",
                compression={
                    "quantize": {"scheme": scheme, "calibrationRows": 4},
                    "gate": {"minRecovery": 0.5},
                },
                verification={"prompts": 4, "maxNewTokens": 16},
                serving={"maxModelLength": 256},
            )
    return _in_turn("compressor", requests)


@pytest.fixture(scope="module")
def verified(compressed: Results) -> Results:
    """What could be compressed, in vLLM."""
    requests = {}
    for at, result in compressed.items():
        if result.outcome == "Succeeded":
            output = Path(_local(result)).parents[1] / "verify" / "artifacts"
            output.mkdir(parents=True)
            request = _request_of(result)
            requests[at] = request.model_copy(
                update={
                    "stage": VERIFY.name,
                    "inputs": {**request.inputs, COMPRESS.name: result},
                    "output": str(output),
                    "report": str(output.parent / "progress.json"),
                    "result": str(output.parent / "result.json"),
                }
            )
    # In this process, or each engine would import vLLM once more.
    return _in_turn("server", requests, VLLM_ENABLE_V1_MULTIPROCESSING="0")


def _local(result: StageResult) -> str:
    return result.artifact("compressed").uri.removeprefix("file://")


def _request_of(result: StageResult) -> StageRequest:
    path = Path(_local(result)).parents[1] / "request.json"
    return StageRequest.model_validate_json(path.read_text())


def _in_turn(
    environment: str, requests: Mapping[tuple[str, str], StageRequest], **variables: str
) -> Results:
    paths = []
    for request in requests.values():
        paths.append(Path(request.result).with_name("request.json"))
        paths[-1].write_text(request.model_dump_json(by_alias=True))
    stage = next(iter(requests.values())).stage
    while paths:
        subprocess.run(
            [ROOT / ".venvs" / environment / "bin" / "python", IN_TURN, stage, *paths],
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            check=False,
            timeout=3000,
        )
        # A process that broke off has no result of the one that it was about.
        ended = [path for path in paths if path.with_name("result.json").exists()]
        paths = paths[max(1, len(ended)) :]
    return {
        at: StageResult.model_validate_json(Path(request.result).read_text())
        for at, request in requests.items()
        if Path(request.result).exists()
    }


@pytest.mark.long
def test_the_page_claims_what_came_out(compressed: Results, verified: Results) -> None:
    """What came out is written to build/architectures.md, to be taken over."""
    lines = []
    for name, each in ARCHITECTURES.items():
        at = [(name, scheme) for scheme in SCHEMES]
        cells = [_quantized(compressed.get(place)) for place in at]
        cells += [_served(verified.get(place)) for place in at]
        lines.append(f"| `{name}` | {each.example} | yes | yes | {' | '.join(cells)} |")
    BUILT.parent.mkdir(exist_ok=True)
    BUILT.write_text("\n".join(lines) + "\n", encoding="utf-8")

    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "ForCausalLM" in line]

    assert len(rows) == len(lines)
    wrong = [
        (claimed, seen)
        for row, line in zip(rows, lines, strict=True)
        for claimed, seen in zip(row.split("|"), line.split("|"), strict=True)
        if claimed.strip() != seen.strip()
    ]
    assert wrong == []


def _quantized(result: StageResult | None) -> str:
    if result is None or result.outcome != "Succeeded":
        return "no"
    return "yes" if result.facts["scheme"] == result.facts["asked"] else "widened"


def _served(result: StageResult | None) -> str:
    if result is None:
        return "no"
    if result.reason == "ServingParityFailed":
        return "loads, but differs"
    return "yes" if result.outcome == "Succeeded" else "not loaded"
