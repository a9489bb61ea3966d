"""Write a Llama-like model as a GGUF file: F16, Q8_0 or Q4_0 by the `gguf` package's quantizers.

Names and order of values are llama.cpp's (`convert_hf_to_gguf.py` there). Tensors are quantized one
after another while the file is written, so that memory holds one of them. K-quants are left out:
the package reads them, and cannot make them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.finetunejob.export import Precision
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.export.gguf_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter, TensorNameMap
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# By the name that llama.cpp has for them.
ARCHITECTURES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
# llama.cpp rotates neighbouring values of its heads, transformers those of their halves.
_INTERLEAVED: Final = "llama"
_ROPES: Final = ("default", "llama3")
# Four bits are too few for the rows that each token is looked up in, and scored by.
_WIDER: Final = ("token_embd.weight", "output.weight")
_ROPE_FACTORS: Final = "rope_freqs.weight"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by llama.cpp's name; `heads` of it are to be interleaved, if any."""

    name: str
    values: NDArray[np.float32]
    kind: "GGMLQuantizationType"
    heads: int | None = None

    def encoded(self) -> NDArray[Any]:
        """The values as they stand in the file."""
        from gguf import quants

        values = self.values if self.heads is None else _interleaved(self.values, self.heads)
        encoded: NDArray[Any] = quants.quantize(values, self.kind)
        return encoded


def write_gguf(
    model: "PreTrainedModel",
    path: Path,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    precision: Precision,
    name: str,
) -> None:
    """Write `model`, whose weights are in fp32, to the file at `path`.

    Raises:
        BadInputError: llama.cpp does not know the architecture, its rope or its tokenizer.
        OSError: the disk is full.
    """
    from gguf import GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape

    refuse_unknown_architecture(model.config)
    writer = GGUFWriter(path, ARCHITECTURES[model.config.architectures[0]])
    writer.add_name(name)
    _add_shape(writer, model.config, precision=precision)
    write_tokenizer(writer, tokenizer, vocab_size=model.config.vocab_size)
    tensors = list(_tensors(model, precision=precision))
    for tensor in tensors:
        shape = quant_shape_to_byte_shape(tensor.values.shape, tensor.kind)
        writer.add_tensor_info(
            tensor.name, tensor.values.shape, np.dtype(np.float32), math.prod(shape), tensor.kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.encoded())
    writer.close()


def refuse_unknown_architecture(config: "PretrainedConfig") -> None:
    """Return if the file could be written.

    Raises:
        BadInputError: llama.cpp's names for the architecture or its rope are not known here.
    """
    architecture, rope = (config.architectures or ["?"])[0], _rope_of(config)["rope_type"]
    if architecture not in ARCHITECTURES:
        raise _refused(f"{architecture} is none of {', '.join(ARCHITECTURES)}")
    if rope not in _ROPES:
        raise _refused(f"its rope is of type {rope}, which is none of {', '.join(_ROPES)}")


def _refused(why: str) -> BadInputError:
    return BadInputError(
        Reason.INVALID_SPEC,
        f"spec.export.formats: gguf cannot be written of this model: {why}; leave gguf out, or "
        "choose onnx",
    )


def _rope_of(config: "PretrainedConfig") -> Mapping[str, Any]:
    return {"rope_type": "default", "rope_theta": 10_000.0, **(config.rope_parameters or {})}


def _head_size(config: "PretrainedConfig") -> int:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(size)


def _add_shape(writer: "GGUFWriter", config: "PretrainedConfig", *, precision: Precision) -> None:
    from gguf import LlamaFileType

    writer.add_file_type(int(LlamaFileType[f"MOSTLY_{precision}"]))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_rope_freq_base(_rope_of(config)["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _tensors(model: "PreTrainedModel", *, precision: Precision) -> "list[Tensor]":
    from gguf import GGMLQuantizationType, get_tensor_name_map

    config = model.config
    names = get_tensor_name_map(_architecture(config), config.num_hidden_layers)
    tensors = []
    # A tied head comes once, as the embedding: so the file has none, and llama.cpp uses that.
    for name, parameter in model.named_parameters():
        values = parameter.detach().float().cpu().numpy()
        told = _name(name, names)
        kind = _kind(told, values, GGMLQuantizationType[precision])
        tensors.append(Tensor(told, values, kind, heads=_heads(name, config)))
    factors = _rope_factors(config)
    if factors is not None:
        tensors.append(Tensor(_ROPE_FACTORS, factors, GGMLQuantizationType.F32))
    return tensors


def _architecture(config: "PretrainedConfig") -> Any:
    from gguf import MODEL_ARCH_NAMES

    wanted = ARCHITECTURES[config.architectures[0]]
    return next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == wanted)


def _name(name: str, names: "TensorNameMap") -> str:
    told = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if told is None:
        raise _refused(f"llama.cpp has no name for {name}")
    return str(told)


def _kind(name: str, values: NDArray[Any], wanted: "GGMLQuantizationType") -> Any:
    """How a tensor is stored: vectors in fp32, and in F16 what no whole blocks divide."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if values.ndim == 1:
        return GGMLQuantizationType.F32
    if wanted is GGMLQuantizationType.Q4_0 and name in _WIDER:
        wanted = GGMLQuantizationType.Q8_0
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if values.shape[-1] % block == 0 else GGMLQuantizationType.F16


def _heads(name: str, config: "PretrainedConfig") -> int | None:
    if ARCHITECTURES[config.architectures[0]] != _INTERLEAVED:
        return None
    if ".q_proj." in name:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".k_proj." in name else None


def _interleaved(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of each head, first and second half in turn."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _rope_factors(config: "PretrainedConfig") -> NDArray[np.float32] | None:
    """By how much Llama 3.1 slows each frequency down; None of other ropes."""
    rope = _rope_of(config)
    if rope["rope_type"] != "llama3":
        return None
    size = _head_size(config)
    lengths = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, size, 2) / size)
    old, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((old / lengths - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
