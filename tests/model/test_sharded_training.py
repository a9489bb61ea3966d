"""FSDP2: two workers that hold a model together, over gloo, compute what one does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sharded_runs
from small_models import make_tiny_model
from small_runs import random_rows
from train_stage import a_train_stage
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.models import load_model

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

EXACT = ("lora", "full", "frozen")
ROUNDED = ("bf16", "full-bf16")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    script = Path(sharded_runs.__file__)
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("name", EXACT)
def test_two_workers_compute_what_one_does(runs: Path, name: str) -> None:
    one, two = (_curve(runs, f"{name}-{workers}")["points"] for workers in ("one", "two"))

    assert len(two) == len(one)
    for got, expected in zip(two, one, strict=True):
        assert got["kind"] == expected["kind"]
        assert got["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert got.get("gradNorm", 0.0) == pytest.approx(expected.get("gradNorm", 0.0), rel=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_what_they_export_is_what_one_exports(runs: Path, name: str) -> None:
    one, two = (_weights(runs, f"{name}-{workers}") for workers in ("one", "two"))

    assert two.keys() == one.keys()
    for key, expected in one.items():
        torch.testing.assert_close(two[key], expected, atol=1e-5, rtol=0)
    files = [
        {path.name for path in (runs / f"{name}-{n}" / "tuned").iterdir()} for n in ("one", "two")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_from_a_sharded_checkpoint_they_go_on_to_the_last_bit(runs: Path, name: str) -> None:
    undisturbed, resumed = (_curve(runs, f"{name}-{how}") for how in ("two", "resumed"))

    assert resumed["resumedFrom"] == 4
    assert resumed["points"] == undisturbed["points"]
    for key, expected in _weights(runs, f"{name}-two").items():
        assert torch.equal(_weights(runs, f"{name}-resumed")[key], expected)


@pytest.mark.parametrize("name", ROUNDED)
def test_in_bf16_they_are_as_far_from_one_as_bf16_is_from_fp32(runs: Path, name: str) -> None:
    one, two = (_curve(runs, f"{name}-{workers}")["points"] for workers in ("one", "two"))

    for got, expected in zip(two, one, strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], abs=0.02)


@pytest.mark.parametrize("name", ["elastic-fewer", "elastic-more"])
def test_another_number_of_workers_goes_on_with_the_same_curve(runs: Path, name: str) -> None:
    """From two to one and from one to two: as many rows a step, and the sums in another order."""
    other, alone = _curve(runs, name), _curve(runs, "elastic-one")

    assert other["resumedFrom"] == 4
    assert [point["kind"] for point in other["points"]] == [p["kind"] for p in alone["points"]]
    for got, expected in zip(other["points"], alone["points"], strict=True):
        assert got.get("tokens") == expected.get("tokens")
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_each_worker_keeps_its_part_and_no_pickle(runs: Path) -> None:
    newest = runs / "full-two/checkpoints/step-9"

    files = sorted(path.name for path in newest.iterdir())

    assert all(name.endswith((".safetensors", ".json")) for name in files)
    parts = [load_file(newest / name) for name in files if name.startswith("shard-")]
    assert len(parts) == 2
    whole = load_file(runs / "full-one/checkpoints/step-9/weights.safetensors")
    sizes = [sum(v.numel() for k, v in part.items() if k.startswith("weights/")) for part in parts]
    assert sum(sizes) == sum(value.numel() for value in whole.values())
    assert max(sizes) < 0.6 * sum(sizes)


def test_a_job_of_two_workers_leaves_an_ordinary_model(tmp_path: Path) -> None:
    """With a frozen copy of the base beside it, and packed rows, through Ray."""
    training = {
        "method": "full",
        "parallelism": "fsdp",
        "packing": "bfd",
        "precision": "fp32",
        "klToBase": {"weight": 0.1},
        "optimizer": {"learningRate": 1e-3},
        "batch": {"size": 8, "microBatchSize": 2},
        "maxSteps": 4,
    }
    stage = a_train_stage(
        tmp_path,
        model=make_tiny_model(tmp_path / "model"),
        train=random_rows(24),
        validation=random_rows(6, seed=1),
        training=training,
        resources={"workers": 2},
    )

    result = stage.run(timeout_s=580.0)

    assert result.outcome == "Succeeded", stage.log()[-4000:]
    tuned = load_model(local_path(result.artifact("tuned")), dtype=torch.float32)
    base = load_model(tmp_path / "model", dtype=torch.float32)
    moved = [
        float((new - old).abs().max())
        for new, old in zip(tuned.parameters(), base.parameters(), strict=True)
    ]
    assert all(0 < distance < 0.1 for distance in moved)


def _curve(runs: Path, name: str) -> Any:
    return json.loads((runs / name / "curve.json").read_text())


def _weights(runs: Path, name: str) -> dict[str, torch.Tensor]:
    [file] = (runs / name / "tuned").glob("*.safetensors")
    return load_file(file)
