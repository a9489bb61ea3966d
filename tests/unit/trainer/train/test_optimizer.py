"""What is decayed, and at what part of the rate every parameter learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_trainer.train.adapters import make_trainable
from tunesmith_trainer.train.optimizer import build_optimizer, set_rate
from tunesmith_trainer.train.parameter_groups import (
    parameter_groups,
    rate_multipliers,
    trainable_parameters,
)


def trained(**training: Any) -> tuple[Any, Any]:
    """A small model that is trained so, and the training."""
    config = a_train_config(training=training)
    model = make_trainable(small_model(), training=config.training, precision="fp32")
    return model, config.training


def test_the_optimizer_has_the_settings_of_the_spec() -> None:
    given = {"learningRate": 0.5, "weightDecay": 0.25, "beta1": 0.8, "beta2": 0.9}
    model, training = trained(method="full", optimizer=given)

    optimizer = build_optimizer(model, training=training)

    assert optimizer.defaults["lr"] == 0.5
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]


def test_norms_and_biases_are_not_decayed() -> None:
    model, training = trained(method="full")
    parameters = trainable_parameters(model)

    decayed, kept = parameter_groups(model, training=training)

    names = {id(weight): name for name, weight in parameters.items()}
    assert {names[id(weight)].split(".")[-2] for weight in kept["params"]} == {
        "input_layernorm",
        "post_attention_layernorm",
        "norm",
    }
    assert len(decayed["params"]) + len(kept["params"]) == len(parameters)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_layer_learns_at_a_part_of_the_rate_above_it(method: str) -> None:
    """Embeddings count as the layer below the first, final norm and head as part of the last."""
    model, training = trained(method=method, optimizer={"layerDecay": 0.5})

    multipliers = rate_multipliers(model, training=training)

    assert {value for name, value in multipliers.items() if ".layers.0." in name} == {0.5}
    assert {value for name, value in multipliers.items() if ".layers.1." in name} == {1.0}
    others = {name: value for name, value in multipliers.items() if ".layers." not in name}
    whole = {"model.embed_tokens.weight": 0.25, "model.norm.weight": 1.0}
    assert others == (whole if method == "full" else {})


def test_the_b_matrices_of_lora_plus_learn_at_the_ratio() -> None:
    model, training = trained(lora={"loraplusLrRatio": 16.0}, optimizer={"layerDecay": 0.5})

    multipliers = rate_multipliers(model, training=training)

    lowest = {name: value for name, value in multipliers.items() if ".layers.0." in name}
    assert {value for name, value in lowest.items() if "lora_A" in name} == {0.5}
    assert {value for name, value in lowest.items() if "lora_B" in name} == {8.0}


def test_a_step_moves_each_layer_by_its_own_rate() -> None:
    """AdamW's first step is the rate itself in every direction that has a gradient."""
    model, training = trained(method="full", optimizer={"layerDecay": 0.5, "weightDecay": 0.0})
    optimizer = build_optimizer(model, training=training)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)

    set_rate(optimizer, 1e-2)
    optimizer.step()

    moved = {
        name: (before[name] - weight).mean().item() for name, weight in model.named_parameters()
    }
    assert moved["model.embed_tokens.weight"] == pytest.approx(2.5e-3, rel=1e-3)
    assert moved["model.layers.0.mlp.up_proj.weight"] == pytest.approx(5e-3, rel=1e-3)
    assert moved["model.layers.1.mlp.up_proj.weight"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["model.norm.weight"] == pytest.approx(1e-2, rel=1e-3)


def test_moments_of_eight_bits_are_kept_in_checkpoints(tmp_path: Path) -> None:
    """bitsandbytes takes eight bits for matrices of 4,096 numbers and more."""
    training = {
        "method": "full",
        "optimizer": {"type": "adamw_8bit", "learningRate": 1e-2},
        "maxSteps": 6,
        "evaluateEverySteps": 2,
    }
    config = a_train_config(training=training)

    def loop(folder: str, last_step: int | None = None) -> Any:
        model = make_trainable(
            small_model(hidden_size=64), training=config.training, precision="fp32"
        )
        return a_loop(model, config=config, folder=tmp_path / folder, last_step=last_step)

    undisturbed = loop("a")
    curve = losses(undisturbed.run())
    loop("b", last_step=4).run()
    resumed = loop("b")
    again = losses(resumed.run())

    kept = load_file(tmp_path / "a/step-6/optimizer.safetensors")
    assert {tensor.dtype for name, tensor in kept.items() if name.startswith("state1/")} == {
        torch.uint8,
        torch.float32,
    }
    assert resumed.resumed_from == 4
    assert [point for point in again if point["step"] > 4] == [
        point for point in curve if point["step"] > 4
    ]
    assert min(point["loss"] for point in curve) < curve[0]["loss"]
