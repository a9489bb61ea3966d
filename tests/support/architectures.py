"""Two random layers of each architecture that is tried, in transformers' own configuration classes.

Wide enough for every kernel: heads of 64 columns, and layers that groups of 128 divide.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from small_models import CONTEXT, TINY_VOCABULARY, make_tiny_tokenizer

_SHAPE: dict[str, Any] = {
    "vocab_size": TINY_VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
}
_HEAD = {"head_dim": 64}
# Both kinds of attention, and a window that rows of the tests exceed.
_WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A configuration class, what it is given beside the common shape, and a model that has it."""

    config: str
    example: str
    given: dict[str, Any] = field(default_factory=dict)


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("LlamaConfig", "Llama 3.2, SmolLM2", {
        **_HEAD, "tie_word_embeddings": True,
    }),
    "SmolLM3ForCausalLM": Architecture("SmolLM3Config", "SmolLM3", {"no_rope_layers": [1, 0]}),
    "MistralForCausalLM": Architecture("MistralConfig", "Mistral 7B", {
        **_HEAD, "sliding_window": None,
    }),
    "Qwen2ForCausalLM": Architecture("Qwen2Config", "Qwen2.5"),
    "Qwen3ForCausalLM": Architecture("Qwen3Config", "Qwen3", _HEAD),
    "Gemma2ForCausalLM": Architecture("Gemma2Config", "Gemma 2", {
        **_HEAD, **_WINDOWS, "query_pre_attn_scalar": 64,
    }),
    "Gemma3ForCausalLM": Architecture("Gemma3TextConfig", "Gemma 3 (1B)", {
        **_HEAD, **_WINDOWS, "query_pre_attn_scalar": 64,
    }),
    "PhiForCausalLM": Architecture("PhiConfig", "Phi-2", {"num_key_value_heads": 2}),
    "Phi3ForCausalLM": Architecture("Phi3Config", "Phi-3.5, Phi-4"),
}  # fmt: skip


def make_architecture(name: str, folder: Path) -> Path:
    """Write a random model of that architecture and its tokenizer into `folder`; return it."""
    import torch
    import transformers

    tokenizer = make_tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    architecture = ARCHITECTURES[name]
    config = getattr(transformers, architecture.config)(
        **{**_SHAPE, **architecture.given},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, name)(config).save_pretrained(folder)
    return folder
