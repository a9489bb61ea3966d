"""Take layers, channels and heads out of a model: an ordinary, smaller one is left.

The result has its shape in its configuration and nothing else that is new, so that transformers and
vLLM load it as any model of its architecture.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from tunesmith_engine.stages.pruned_shape import Shape
from tunesmith_trainer.distill.importance import Importance
from tunesmith_trainer.distill.prunable import blocks_of, head_size_of, shape_of

# Of the configuration: a value for each layer.
_OF_LAYERS: Final = ("layer_types", "no_rope_layers")


class Cut(BaseModel):
    """What stays, by its number in the whole model, ascending.

    `channels` and `kv_heads` have a list for each layer that stays, `tokens` are ids; None where
    all of them do.
    """

    model_config = ConfigDict(frozen=True)

    layers: list[int]
    channels: list[list[int]] | None = None
    kv_heads: list[list[int]] | None = None
    tokens: list[int] | None = None


@dataclass(frozen=True, slots=True)
class _Linear:
    """Rows or columns of a projection that stay."""

    module: nn.Linear
    kept: torch.Tensor

    def cut_rows(self) -> None:
        self.module.weight = _parameter(self.module.weight[self.kept])
        if self.module.bias is not None:
            self.module.bias = _parameter(self.module.bias[self.kept])
        self.module.out_features = len(self.kept)

    def cut_columns(self) -> None:
        self.module.weight = _parameter(self.module.weight[:, self.kept])
        self.module.in_features = len(self.kept)


def choose_cut(importance: Importance, *, whole: Shape, left: Shape) -> Cut:
    """The most important parts, as many as are to be left; of equals the earlier ones."""
    layers = _best(importance.layers, left.layers)
    return Cut(
        layers=layers,
        channels=_best_of_layers(importance.channels, layers, left.channels)
        if left.channels < whole.channels
        else None,
        kv_heads=_best_of_layers(importance.kv_heads, layers, left.kv_heads)
        if left.kv_heads < whole.kv_heads
        else None,
    )


def apply_cut(model: Any, cut: Cut) -> None:
    """Leave in `model` what stays, in place."""
    # Asked before anything is cut, by which it would change.
    head_size = head_size_of(model)
    queries = model.config.num_attention_heads // shape_of(model).kv_heads
    _cut_layers(model, cut.layers)
    for number, block in enumerate(blocks_of(model)):
        if cut.channels is not None:
            _cut_channels(block.mlp, torch.tensor(cut.channels[number]))
        if cut.kv_heads is not None:
            kept = torch.tensor(cut.kv_heads[number])
            _cut_heads(block.self_attn, kept, head_size=head_size, queries=queries)
    if cut.channels is not None:
        model.config.intermediate_size = len(cut.channels[0])
    if cut.kv_heads is not None:
        model.config.head_dim = head_size
        model.config.num_key_value_heads = len(cut.kv_heads[0])
        model.config.num_attention_heads = queries * len(cut.kv_heads[0])


def _cut_layers(model: Any, kept: list[int]) -> None:
    blocks, config = blocks_of(model), model.config
    for number, place in enumerate(kept):
        # By which a cache of keys knows its layer.
        blocks[place].self_attn.layer_idx = number
    model.base_model.layers = nn.ModuleList(blocks[place] for place in kept)
    config.num_hidden_layers = len(kept)
    for name in _OF_LAYERS:
        values = getattr(config, name, None)
        if values is not None:
            setattr(config, name, [values[place] for place in kept])


def _cut_channels(network: Any, kept: torch.Tensor) -> None:
    _Linear(network.gate_proj, kept).cut_rows()
    _Linear(network.up_proj, kept).cut_rows()
    _Linear(network.down_proj, kept).cut_columns()


def _cut_heads(attention: Any, kept: torch.Tensor, *, head_size: int, queries: int) -> None:
    keys = _columns_of(kept, size=head_size)
    asking = _columns_of(kept, size=queries * head_size)
    _Linear(attention.k_proj, keys).cut_rows()
    _Linear(attention.v_proj, keys).cut_rows()
    _Linear(attention.q_proj, asking).cut_rows()
    _Linear(attention.o_proj, asking).cut_columns()


def _columns_of(groups: torch.Tensor, *, size: int) -> torch.Tensor:
    """The numbers of all columns of these groups of `size` each."""
    return (groups[:, None] * size + torch.arange(size)).flatten()


def _parameter(values: torch.Tensor) -> nn.Parameter:
    # A copy: a view would keep, and save_pretrained would write, what was cut off.
    return nn.Parameter(values.detach().clone(), requires_grad=False)


def _best(scores: torch.Tensor, number: int) -> list[int]:
    order = torch.argsort(scores, descending=True, stable=True)[:number]
    return sorted(int(place) for place in order)


def _best_of_layers(scores: torch.Tensor, layers: list[int], number: int) -> list[list[int]]:
    return [_best(scores[layer], number) for layer in layers]
