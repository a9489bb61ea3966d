"""QLoRA: frozen layers in four bits, adapters on them, and what is learnt on the base as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_trainer.models import merged_model
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.parameter_groups import trainable_parameters

CPU = torch.device("cpu")
IDS = torch.arange(1, 13)[None]
TRAINING: dict[str, Any] = {
    "lora": {"quantization": "nf4", "rank": 4},
    "batch": {"size": 8, "microBatchSize": 4},
    "optimizer": {"learningRate": 1e-2},
    "precision": "fp32",
    "maxSteps": 6,
    "evaluateEverySteps": 3,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of hidden size 64: a block of NF4 has 64 weights."""
    folder = tmp_path_factory.mktemp("base")
    small_model(hidden_size=64).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_frozen_layers_take_half_a_byte_for_each_weight(base: Path, precision: str) -> None:
    config = a_train_config(training={**TRAINING, "precision": precision})
    model = build_trainable(base, config=config, device=CPU)

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 14
    for layer in layers:
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == layer.in_features * layer.out_features
    assert {value.dtype for value in trainable_parameters(model).values()} == {torch.float32}
    assert isinstance(model.get_output_embeddings(), torch.nn.Linear)
    assert not isinstance(model.get_output_embeddings(), Linear4bit)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_and_a_resumed_run_has_the_same_curve(
    base: Path, tmp_path: Path, precision: str
) -> None:
    """Evaluated on the way, which must not change what training computes."""
    training = {**TRAINING, "precision": precision}
    config = a_train_config(training=training, checkpoint={"everySteps": 2})

    def loop(folder: str, last_step: int | None = None) -> Any:
        model = build_trainable(base, config=config, device=CPU)
        return a_loop(model, config=config, folder=tmp_path / folder, last_step=last_step)

    undisturbed = loop("a").run()
    loop("b", last_step=4).run()
    resumed = loop("b")
    again = resumed.run()

    assert resumed.resumed_from == 4
    held_out = [point for point in losses(again) if point["step"] > 4]
    assert held_out == [point for point in losses(undisturbed) if point["step"] > 4]
    assert undisturbed.best_loss < undisturbed.held_out_at(0)


def test_what_is_learnt_is_merged_onto_the_base_as_it_was(base: Path, tmp_path: Path) -> None:
    model = build_trainable(base, config=a_train_config(training=TRAINING), device=CPU)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.02)
    folder = export_tuned(model, base=base, base_uri="hf://org/base", output=tmp_path)
    plain = {**TRAINING, "lora": {"rank": 4}}
    unquantized = build_trainable(base, config=a_train_config(training=plain), device=CPU)
    with torch.no_grad():
        for parameter in trainable_parameters(unquantized).values():
            parameter.add_(0.02)

    merged = merged_model(base, adapter=folder)

    torch.testing.assert_close(merged(IDS).logits, unquantized.eval()(IDS).logits)
    assert "quant" not in json.dumps(merged.config.to_dict())
