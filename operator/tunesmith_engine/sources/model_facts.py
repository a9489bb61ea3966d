"""The size and shape of a model, read from headers without loading any weight.

Memory and disk are estimated from it before anything heavy starts. Names of fields are those of
transformers' config.json, and those of ggml's docs/gguf.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.json_io import read_json, whole_number
from tunesmith_engine.sources.errors import SourceError, unusable_model
from tunesmith_engine.sources.gguf_header import GgufHeader, read_gguf_header
from tunesmith_engine.sources.safetensors_header import read_safetensors_header


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What estimates need to know; counts of parameters, layers, heads and tokens."""

    num_parameters: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    context_length: int
    is_tied: bool
    has_chat_template: bool


def read_model_facts(path: Path) -> ModelFacts:
    """The facts of a .gguf file, or of a folder with config.json and safetensors.

    Raises:
        SourceError: BaseModelNotFound, it is no model that can be read.
        OSError: a file cannot be read.
    """
    try:
        return _of_folder(path) if path.is_dir() else _of_gguf(read_gguf_header(path))
    except SourceError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        because = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise unusable_model(path.name, because=because) from error


def _of_gguf(header: GgufHeader) -> ModelFacts:
    architecture = header.fields.get("general.architecture")

    def number(name: str) -> int:
        return header.number(f"{architecture}.{name}")

    heads = number("attention.head_count")
    # Absent where every head has keys and values of its own.
    has_kv_heads = f"{architecture}.attention.head_count_kv" in header.fields
    return ModelFacts(
        num_parameters=sum(header.tensors.values()),
        num_layers=number("block_count"),
        hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"),
        num_heads=heads,
        num_kv_heads=number("attention.head_count_kv") if has_kv_heads else heads,
        vocab_size=header.lengths["tokenizer.ggml.tokens"],
        context_length=number("context_length"),
        # A model without an output matrix uses its embeddings for it.
        is_tied="output.weight" not in header.tensors,
        has_chat_template="tokenizer.chat_template" in header.fields,
    )


def _of_folder(folder: Path) -> ModelFacts:
    config = read_json((folder / "config.json").read_text(encoding="utf-8"))
    # A model of several kinds of input keeps its language model one level below.
    config = {**config, **(config.get("text_config") or {})}
    tensors = {
        name: tensor.num_elements
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in read_safetensors_header(path).items()
    }
    heads = whole_number(config["num_attention_heads"])
    return ModelFacts(
        num_parameters=sum(tensors.values()),
        num_layers=whole_number(config["num_hidden_layers"]),
        hidden_size=whole_number(config["hidden_size"]),
        intermediate_size=whole_number(config["intermediate_size"]),
        num_heads=heads,
        num_kv_heads=whole_number(config.get("num_key_value_heads") or heads),
        vocab_size=whole_number(config["vocab_size"]),
        context_length=whole_number(config["max_position_embeddings"]),
        is_tied="lm_head.weight" not in tensors,
        has_chat_template=_has_chat_template(folder),
    )


def _has_chat_template(folder: Path) -> bool:
    # transformers reads it from any of these three.
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    path = folder / "tokenizer_config.json"
    settings: Any = read_json(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(settings, dict):
        raise TypeError(f"{path.name} is no mapping")
    return bool(settings.get("chat_template"))
