"""GGUF files of two layers: read back by transformers they are the model that was written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from small_models import TINY_VOCABULARY, make_tiny_tokenizer
from tunesmith_api.finetunejob.export import Precision
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.export.gguf_writer import write_gguf

IDS = torch.tensor([[5, 77, 130, 12, 301, 9, 44]])
SHAPE = {
    "vocab_size": TINY_VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = [
    pytest.param(LlamaConfig(**SHAPE, tie_word_embeddings=True), id="llama"),
    pytest.param(LlamaConfig(**SHAPE, tie_word_embeddings=False), id="llama-untied"),
    pytest.param(MistralConfig(**SHAPE, sliding_window=None), id="mistral"),
    pytest.param(Qwen2Config(**SHAPE, tie_word_embeddings=True), id="qwen2"),
    # transformers takes 128 for granted when it reads such a file, as all of them have it.
    pytest.param(Qwen3Config(**{**SHAPE, "head_dim": 128}, tie_word_embeddings=True), id="qwen3"),
]


def model_of(config: PretrainedConfig) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.config.architectures = [type(model).__name__]
    # Biases and norms are drawn as zeros and ones, which would hide that they are lost.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def written(folder: Path, model: Any, precision: Precision = "F16") -> Path:
    path = folder / "model.gguf"
    write_gguf(model, path, tokenizer=make_tiny_tokenizer(), precision=precision, name="tiny")
    return path


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def read_back(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("config", CONFIGS)
def test_a_file_read_back_is_the_model_to_half_precision(
    tmp_path: Path, config: PretrainedConfig
) -> None:
    model = model_of(config)

    again = read_back(written(tmp_path, model))

    assert torch.allclose(logits_of(again), logits_of(model), atol=5e-3)


@pytest.mark.parametrize(("precision", "most"), [("F16", 1e-3), ("Q8_0", 1e-2), ("Q4_0", 0.15)])
def test_narrower_precisions_are_further_off_and_smaller(
    tmp_path: Path, precision: Precision, most: float
) -> None:
    model = model_of(LlamaConfig(**SHAPE, tie_word_embeddings=True))

    path = written(tmp_path, model, precision)

    weight = model.model.layers[0].mlp.up_proj.weight.detach()
    again = read_back(path).model.layers[0].mlp.up_proj.weight.detach()
    assert float((again - weight).norm() / weight.norm()) < most
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    assert types["blk.0.ffn_up.weight"] == precision
    assert types["output_norm.weight"] == "F32"
    assert types["token_embd.weight"] == {"Q4_0": "Q8_0"}.get(precision, precision)


def test_columns_that_no_block_divides_stay_in_half_precision(tmp_path: Path) -> None:
    shape = {**SHAPE, "intermediate_size": 72}
    path = written(tmp_path, model_of(LlamaConfig(**shape, tie_word_embeddings=True)), "Q8_0")

    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"


def test_the_tokenizer_and_the_chat_template_are_in_the_file(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    path = written(tmp_path, model_of(LlamaConfig(**SHAPE, tie_word_embeddings=True)))

    again = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)

    text = "My printer does not print.<|im_end|>\n"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.chat_template == tokenizer.chat_template
    assert again.eos_token_id == tokenizer.eos_token_id


def test_the_slowed_rope_of_llama_3_is_in_the_file(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    model = model_of(LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_parameters=rope))
    path = written(tmp_path, model)

    factors = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    slowed = model.model.rotary_emb.inv_freq
    plain = 500_000.0 ** (-torch.arange(0, 16, 2) / 16)
    assert torch.allclose(torch.tensor(factors["rope_freqs.weight"]), plain / slowed, rtol=1e-5)


def test_an_architecture_that_llama_cpp_has_no_names_for_here_is_refused(tmp_path: Path) -> None:
    model = model_of(LlamaConfig(**SHAPE, tie_word_embeddings=True))
    model.config.architectures = ["FalconForCausalLM"]

    with pytest.raises(BadInputError, match=r"spec\.export\.formats.*FalconForCausalLM"):
        written(tmp_path, model)


def test_a_scaled_rope_is_refused(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
    model = model_of(LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_parameters=rope))

    with pytest.raises(BadInputError, match="rope is of type linear"):
        written(tmp_path, model)
