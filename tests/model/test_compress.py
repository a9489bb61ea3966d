"""The compress stage as a process of the compressor environment, on a tiny model."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tuned_job import make_tuned_job, request_for
from tunesmith_engine.stages.catalog import COMPRESS
from tunesmith_engine.stages.contracts import StageResult

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venvs/compressor/bin/python"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


def compressed(job: Path, attempt: Path, **quantize: Any) -> tuple[StageResult, Path]:
    """Run the stage; return its result and the folder of its artifacts."""
    request = request_for(
        job,
        COMPRESS.name,
        output=attempt / "artifacts",
        compression={"quantize": quantize, "gate": {"minRecovery": 0.5}},
        verification={"prompts": 2, "maxNewTokens": 4},
    )
    path = attempt / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))
    command = [str(PYTHON), "-m", "tunesmith_trainer", "compress", str(path)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=attempt, env=one_thread, check=False, timeout=900)
    result = StageResult.model_validate_json((attempt / "result.json").read_text())
    assert result.outcome == "Succeeded", result.message
    return result, attempt / "artifacts" / "compressed"


@pytest.fixture(scope="module")
def w8a8(job: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, Path]:
    return compressed(job, tmp_path_factory.mktemp("w8a8"), scheme="W8A8")


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def dtypes_of(folder: Path) -> dict[str, str]:
    with safe_open(folder / "model.safetensors", framework="np") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def test_w8a8_leaves_int8_matrices_with_a_scale_per_row(w8a8: tuple[StageResult, Path]) -> None:
    result, folder = w8a8

    scheme = config_of(folder)["quantization_config"]["config_groups"]["group_0"]
    assert (scheme["weights"]["num_bits"], scheme["weights"]["strategy"]) == (8, "channel")
    assert scheme["input_activations"]["dynamic"] is True
    dtypes = dtypes_of(folder)
    assert dtypes["model.layers.0.self_attn.q_proj.weight"] == "I8"
    assert dtypes["model.layers.0.self_attn.q_proj.weight_scale"] == "BF16"
    assert dtypes["model.embed_tokens.weight"] == "BF16"
    assert "lm_head.weight" not in dtypes
    assert result.facts["scheme"] == "W8A8"
    assert {"llmcompressor", "compressed-tensors"} <= set(result.versions)


def test_w4a16_packs_four_bits_in_the_largest_groups_that_fit(job: Path, tmp_path: Path) -> None:
    result, folder = compressed(job, tmp_path, scheme="W4A16", calibrationRows=4)

    scheme = config_of(folder)["quantization_config"]["config_groups"]["group_0"]
    assert (scheme["weights"]["num_bits"], scheme["weights"]["group_size"]) == (4, 64)
    assert scheme["input_activations"] is None
    assert dtypes_of(folder)["model.layers.0.mlp.down_proj.weight_packed"] == "I32"
    assert "4 training rows" in result.warnings[0]


@pytest.mark.parametrize("algorithm", ["awq", "rtn", "autoRound"])
def test_other_ways_to_round_leave_what_the_same_server_loads(
    job: Path, tmp_path: Path, algorithm: str
) -> None:
    result, folder = compressed(
        job, tmp_path, scheme="W4A16", calibrationRows=4, algorithm=algorithm, keepLayers=1
    )

    scheme = config_of(folder)["quantization_config"]["config_groups"]["group_0"]
    assert (scheme["weights"]["num_bits"], scheme["weights"]["group_size"]) == (4, 64)
    tries: Any = result.facts["tries"]
    (kept,) = tries[0]["keptLayers"]
    kinds = dtypes_of(folder)
    assert kinds[f"{kept}.mlp.down_proj.weight"] == "BF16"
    packed = [name for name in kinds if name.endswith("down_proj.weight_packed")]
    assert packed
    assert not any(name.startswith(f"{kept}.") for name in packed)


def test_the_tokenizer_ships_with_the_weights(job: Path, w8a8: tuple[StageResult, Path]) -> None:
    _, folder = w8a8

    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (job / "model" / name).read_bytes()
