"""The size and shape of a model, read from headers without loading any weight."""

from dataclasses import dataclass


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
