"""The loop on a card: exact resumption, QLoRA, 8-bit moments, speed and memory of the methods."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_runs import SHAPES, a_gpu_loop, measure, rows_of
from small_runs import losses

LORA: dict[str, Any] = {"lora": {"rank": 16}}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full, 8-bit moments": {"method": "full", "optimizer": {"type": "adamw_8bit"}},
    "full, compiled": {"method": "full", "compile": True},
    "lora": LORA,
    "lora, compiled": {**LORA, "compile": True},
    "qlora": {"lora": {"rank": 16, "quantization": "nf4"}},
}
# Rows of one length: what is timed is arithmetic, without padding.
LENGTH = 2049
STEPS = 12


def timed(training: dict[str, Any], *, micro: int) -> dict[str, Any]:
    return {
        **training,
        "precision": "bf16",
        "batch": {"size": 8, "microBatchSize": micro},
        "maxSteps": STEPS,
        "evaluateEverySteps": STEPS,
    }


@pytest.fixture(scope="module")
def by_method(
    bases: dict[str, Path], device: torch.device, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    rows = rows_of([LENGTH] * 16, vocab_size=SHAPES["1B"]["vocab_size"])
    return {
        name: measure(
            bases["1B"],
            shape="1B",
            name=name,
            training=timed(training, micro=8),
            rows=rows,
            folder=tmp_path_factory.mktemp("run"),
            device=device,
        )
        for name, training in METHODS.items()
    }


def test_every_method_learns_and_says_how_fast(by_method: dict[str, Any], record: Any) -> None:
    for measured in by_method.values():
        record(measured.as_line())

    for measured in by_method.values():
        assert measured.tokens_per_second > 0
        assert measured.last_loss < measured.first_loss
    for name in ("full", "lora"):
        compiled = by_method[f"{name}, compiled"]
        assert compiled.last_loss == pytest.approx(by_method[name].last_loss, rel=1e-3)


def test_what_is_frozen_or_in_eight_bits_takes_less_memory(by_method: dict[str, Any]) -> None:
    peaks = {name: measured.peak_bytes for name, measured in by_method.items()}
    held = {name: measured.held_bytes for name, measured in by_method.items()}

    # Activations are most of it, and those of adapters, which add in fp32, as large as any.
    assert peaks["qlora"] < peaks["lora"] < peaks["full"]
    assert peaks["full, 8-bit moments"] < peaks["full"]
    # Two bytes for each frozen weight, and half of one.
    assert held["lora"] < 0.6 * held["full"]
    assert held["qlora"] < 0.7 * held["lora"]


@pytest.mark.parametrize("name", ["full", "lora", "qlora"])
def test_the_planner_knows_the_peak_within_a_tenth(by_method: dict[str, Any], name: str) -> None:
    measured = by_method[name]

    assert measured.estimated_bytes == pytest.approx(measured.peak_bytes, rel=0.1)


@pytest.mark.parametrize("name", ["full", "full, 8-bit moments", "lora", "qlora"])
def test_a_resumed_run_has_the_same_curve(
    bases: dict[str, Path], device: torch.device, tmp_path: Path, name: str
) -> None:
    """Dropout included: the card's own generator is in the checkpoint."""
    rows = rows_of([65, 129, 33, 257] * 8, vocab_size=SHAPES["135M"]["vocab_size"])
    training = {
        **METHODS[name],
        "regularization": {"attentionDropout": 0.1},
        "batch": {"size": 8, "microBatchSize": 4},
        "maxSteps": 8,
        "evaluateEverySteps": 4,
    }

    def loop(folder: str) -> Any:
        return a_gpu_loop(
            bases["135M"], training=training, rows=rows, folder=tmp_path / folder, device=device
        )

    undisturbed = loop("a").run()
    first = loop("b")
    first._last_step = 4
    first.run()
    resumed = loop("b")
    again = resumed.run()

    assert resumed.resumed_from == 4
    assert losses(again)[-3:] == losses(undisturbed)[-3:]


def test_the_card_has_bf16_and_runs_adapters_in_tf32(device: torch.device) -> None:
    from tunesmith_trainer.devices import has_bf16, num_accelerators, use_tensor_cores

    use_tensor_cores("bf16")
    is_tf32 = torch.get_float32_matmul_precision() == "high"
    use_tensor_cores("fp32")

    assert num_accelerators() >= 1
    assert is_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert has_bf16(device) == (torch.cuda.get_device_capability(device) >= (8, 0))
