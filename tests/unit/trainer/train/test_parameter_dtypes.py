"""What weights are held in: fp32 what is trained, bf16 what autocast would cast so anyway."""

from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_trainer.models import stored_dtype
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.parameter_groups import trainable_parameters

CPU = torch.device("cpu")
IDS = torch.arange(1, 13)[None]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model twice: its weights are numbers of bf16, stored as these and as fp32."""
    root = tmp_path_factory.mktemp("bases")
    model = small_model().to(torch.bfloat16)
    model.save_pretrained(root / "bf16")
    model.float().save_pretrained(root / "fp32")
    return {name: root / name for name in ("bf16", "fp32")}


def test_a_base_stored_in_bf16_is_trained_to_the_same_bits(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    """Although its embedding, its head and the adapters' layers are held in half the memory."""
    config = a_train_config(training={"maxSteps": 4, "precision": "bf16"})
    curves = [
        losses(
            a_loop(
                build_trainable(base, config=config, device=CPU),
                config=config,
                folder=tmp_path / name,
            ).run()
        )
        for name, base in bases.items()
    ]

    assert curves[0] == curves[1]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_adapters_start_from_the_same_numbers_however_the_base_is_stored(
    bases: dict[str, Path], precision: str
) -> None:
    config = a_train_config(training={"precision": precision})
    first, second = (
        trainable_parameters(build_trainable(base, config=config, device=CPU))
        for base in bases.values()
    )

    assert all(torch.equal(first[name], second[name]) for name in second)
    assert {parameter.dtype for parameter in first.values()} == {torch.float32}


def test_frozen_matrices_are_bf16_and_norms_are_not(bases: dict[str, Path]) -> None:
    model = build_trainable(
        bases["bf16"], config=a_train_config(training={"precision": "bf16"}), device=CPU
    )

    kept = {
        parameter.dtype: {
            name.rsplit(".", 2)[1]
            for name, other in model.named_parameters()
            if other.dtype == parameter.dtype and not other.requires_grad
        }
        for parameter in model.parameters()
    }
    assert {"embed_tokens", "base_layer"} == kept[torch.bfloat16]
    assert all("norm" in name for name in kept[torch.float32])
    assert model.get_base_model().model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize(
    "training",
    [{"precision": "fp32"}, {"method": "full", "precision": "bf16"}, {"lora": {"useDora": True}}],
    ids=["fp32", "full", "dora"],
)
def test_a_run_in_fp32_and_a_full_one_hold_all_of_it_in_fp32(
    bases: dict[str, Path], training: dict[str, Any]
) -> None:
    model = build_trainable(bases["bf16"], config=a_train_config(training=training), device=CPU)

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_stored_type_is_that_of_the_weights_and_not_what_the_configuration_says(
    bases: dict[str, Path],
) -> None:
    config = bases["fp32"] / "config.json"
    config.write_text(config.read_text().replace("float32", "bfloat16"))

    assert stored_dtype(bases["fp32"]) == torch.float32
    assert stored_dtype(bases["bf16"]) == torch.bfloat16
