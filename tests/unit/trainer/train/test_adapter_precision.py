"""What an adapter adds survives bf16 autocast, and nothing else about the model changes."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from small_models import small_model
from small_runs import a_train_config
from tunesmith_trainer.train.adapter_precision import keep_updates_in_fp32
from tunesmith_trainer.train.adapters import make_trainable
from tunesmith_trainer.train.parameter_dtypes import hold

VARIANTS: list[dict[str, Any]] = [{}, {"use_rslora": True}, {"use_dora": True}]
NAMES = ["lora", "rslora", "dora"]
INPUTS = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))


def adapted(**variant: Any) -> Any:
    """One layer with outputs about 6, to which an adapter adds about 0.01."""
    torch.manual_seed(0)
    config = LoraConfig(r=8, target_modules=["0"], **variant)
    model = get_peft_model(nn.Sequential(nn.Linear(32, 32)), config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=1e-3) if "lora_B" in name else None
            weight.normal_() if "base_layer" in name else None
    return model


def update_of(model: Any, *, autocast: bool) -> torch.Tensor:
    """What the adapter changes about the outputs."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        tuned = model(INPUTS)
        with model.disable_adapter():
            return (tuned.float() - model(INPUTS).float()).flatten()


def part_lost(model: Any) -> float:
    exact = update_of(model, autocast=False)
    return float((update_of(model, autocast=True) - exact).norm() / exact.norm())


def test_bf16_rounds_most_of_a_small_update_away() -> None:
    assert part_lost(adapted()) > 0.4


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_in_fp32_it_survives(variant: dict[str, Any]) -> None:
    model = adapted(**variant)

    keep_updates_in_fp32(model)

    assert part_lost(model) < 0.02


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_without_autocast_nothing_changes_and_names_stay(variant: dict[str, Any]) -> None:
    model = adapted(**variant)
    before, names = update_of(model, autocast=False), list(model.state_dict())

    keep_updates_in_fp32(model)

    torch.testing.assert_close(update_of(model, autocast=False), before)
    assert list(model.state_dict()) == names


def test_a_model_for_bf16_is_built_so() -> None:
    model = make_trainable(small_model(), training=a_train_config().training, precision="bf16")
    hold(model, model=model, precision="bf16", device=torch.device("cpu"))
    outputs: list[torch.dtype] = []
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    layer.register_forward_hook(lambda _m, _i, output: outputs.append(output.dtype))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=torch.tensor([[1, 2, 3]]))

    assert outputs == [torch.float32]
    assert layer.base_layer.weight.dtype == torch.bfloat16
