"""A pruned model is the whole one without the parts that went, on disk as in memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from architectures import ARCHITECTURES, make_architecture
from small_models import TINY_VOCABULARY
from tunesmith_api.finetunejob.compression import Compression
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.pruned_shape import Shape
from tunesmith_trainer.distill.cut import Cut, apply_cut, choose_cut
from tunesmith_trainer.distill.importance import Importance
from tunesmith_trainer.distill.prunable import (
    PRUNABLE,
    ParameterCount,
    blocks_of,
    planned_shape,
    shape_of,
)
from tunesmith_trainer.models import load_model

IDS = torch.arange(2, 40)[None] % TINY_VOCABULARY
# Every second channel, in multiples that kernels take.
CHANNELS = list(range(0, 256, 2))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("architectures")
    return {name: make_architecture(name, root / name) for name in ARCHITECTURES}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def stored(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    return load_model(folder, dtype=torch.float32)


@pytest.mark.parametrize("name", sorted(PRUNABLE))
def test_without_a_layer_a_model_answers_as_if_it_did_nothing(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    whole, model = (load_model(folders[name], dtype=torch.float32) for _ in range(2))
    blocks_of(whole)[0].forward = lambda hidden_states, *_, **__: hidden_states

    apply_cut(model, Cut(layers=[1]))

    torch.testing.assert_close(logits(model), logits(whole))
    torch.testing.assert_close(logits(stored(model, tmp_path)), logits(whole))
    assert AutoConfig.from_pretrained(tmp_path).num_hidden_layers == 1


@pytest.mark.parametrize("name", sorted(PRUNABLE))
def test_without_channels_a_model_answers_as_if_nothing_read_them(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    whole, model = (load_model(folders[name], dtype=torch.float32) for _ in range(2))
    gone = [channel for channel in range(256) if channel not in CHANNELS]
    for block in blocks_of(whole):
        block.mlp.down_proj.weight.data[:, gone] = 0.0

    apply_cut(model, Cut(layers=[0, 1], channels=[CHANNELS, CHANNELS]))

    left = stored(model, tmp_path)
    torch.testing.assert_close(logits(left), logits(whole), rtol=1e-4, atol=1e-5)
    assert left.config.intermediate_size == 128


@pytest.mark.parametrize("name", sorted(n for n, axes in PRUNABLE.items() if "heads" in axes))
def test_without_heads_a_model_answers_as_if_nothing_read_them(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    config = AutoConfig.from_pretrained(folders[name])
    # Two heads of keys with two of queries each, the first of which goes.
    config.num_attention_heads, config.num_key_value_heads = 4, 2
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(config).eval()
    whole.save_pretrained(tmp_path / "whole")
    model = load_model(tmp_path / "whole", dtype=torch.float32)
    for block in blocks_of(whole):
        block.self_attn.o_proj.weight.data[:, : 2 * config.head_dim] = 0.0

    apply_cut(model, Cut(layers=[0, 1], kv_heads=[[1], [1]]))

    left = stored(model, tmp_path / "left")
    torch.testing.assert_close(logits(left), logits(whole), rtol=1e-4, atol=1e-5)
    assert (left.config.num_attention_heads, left.config.num_key_value_heads) == (2, 1)
    assert left.config.head_dim == config.head_dim


@pytest.mark.parametrize("name", sorted(PRUNABLE))
def test_parameters_are_counted_before_anything_is_cut(name: str, folders: dict[str, Path]) -> None:
    model = load_model(folders[name], dtype=torch.float32)
    counted = ParameterCount.of(model).of_shape(Shape(1, 128, 1))

    apply_cut(model, Cut(layers=[1], channels=[CHANNELS]))

    assert sum(parameter.numel() for parameter in model.parameters()) == counted


def test_the_most_important_parts_stay_and_of_equals_the_earlier() -> None:
    importance = Importance(
        layers=torch.tensor([0.5, 0.1, 0.9]),
        channels=torch.tensor([[1.0, 3.0, 2.0, 2.0]] * 3),
        kv_heads=torch.tensor([[1.0, 2.0]] * 3),
    )

    cut = choose_cut(importance, whole=Shape(3, 4, 2), left=Shape(2, 2, 2))

    assert cut == Cut(layers=[0, 2], channels=[[1, 2], [1, 2]], kv_heads=None)


def refusal(folder: Path, **prune: Any) -> str:
    compression = Compression.model_validate({"prune": prune}).with_defaults()
    with pytest.raises(BadInputError) as caught:
        planned_shape(compression, load_model(folder, dtype=torch.float32))
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "prune", "told"),
    [
        ("PhiForCausalLM", {"ratio": 0.5}, "compression.prune: PhiForCausalLM is no architecture"),
        ("Phi3ForCausalLM", {"ratio": 0.5}, "Phi3ForCausalLM is no architecture"),
        ("Qwen2ForCausalLM", {"axes": ["heads"]}, "of Qwen2ForCausalLM no heads can go"),
        ("LlamaForCausalLM", {"ratio": 0.1}, "0.1 of 2 layers takes none"),
        ("LlamaForCausalLM", {"maxParameters": 1000}, "cannot be reached by layers"),
    ],
)
def test_what_cannot_be_pruned_is_refused(
    name: str, prune: dict[str, Any], told: str, folders: dict[str, Path]
) -> None:
    assert told in refusal(folders[name], **prune)


def test_heads_that_leave_no_width_for_kernels_are_refused(tmp_path: Path) -> None:
    folder = make_architecture("LlamaForCausalLM", tmp_path)
    config = AutoConfig.from_pretrained(folder)
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 2, 2, 8
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)

    assert "1 of 2 heads of keys leave 8 columns" in refusal(folder, axes=["heads"], ratio=0.5)


def test_the_shape_is_that_of_the_configuration(folders: dict[str, Path]) -> None:
    model = load_model(folders["LlamaForCausalLM"], dtype=torch.float32)

    assert shape_of(model) == Shape(layers=2, channels=256, kv_heads=1)
