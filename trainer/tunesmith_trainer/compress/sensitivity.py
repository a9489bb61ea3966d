"""Which decoder layers suffer most from being rounded, for mixed precision.

Each layer is rounded to nearest by itself, and the divergence of the whole model from the unrounded
one is its sensitivity. Rounding to nearest is worse than what the algorithms do, but of the same
layers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.compression import SchemeName
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.distributions import Distributions

# Places at which a layer is judged: there are as many forward passes as layers.
_PLACES: Final = 256
_BITS: Final[Mapping[SchemeName, int]] = {"W4A16": 4}
_EIGHT: Final = 8


def sensitivities(
    model: PreTrainedModel,
    tuned: Distributions,
    *,
    scheme: SchemeName,
    group_size: int | None,
    on_layer: Callable[[int, int], None],
) -> dict[str, float]:
    """The divergence that rounding each decoder layer alone makes, by the layer's module name."""
    layers = dict(decoder_layers(model))
    found = {}
    for place, (name, layer) in enumerate(layers.items()):
        with _rounded(layer, bits=_BITS.get(scheme, _EIGHT), group_size=group_size):
            found[name] = tuned.kl_to(model, most=_PLACES)
        on_layer(place + 1, len(layers))
    return found


def most_sensitive(found: Mapping[str, float], number: int) -> list[str]:
    """So many layers, the most sensitive first.

    Raises:
        BadInputError: that would be all layers.
    """
    if number >= len(found):
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.compression.quantize.keepLayers: given {number} of {len(found)} decoder layers; "
            "fewer than all can be kept; lower it, or choose scheme: none",
        )
    return sorted(found, key=found.__getitem__, reverse=True)[:number]


def layer_pattern(name: str) -> str:
    """What llm-compressor is to ignore for this layer to stay as it is."""
    return f"re:{re.escape(name)}[.].*"


def decoder_layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The decoder's layers with their names."""
    lists = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    }
    # The longest list that there is: those within a layer, of experts, are not the outermost.
    name = min(lists, key=lambda each: (each.count("."), -len(lists[each])))
    for place, layer in enumerate(lists[name]):
        yield f"{name}.{place}", layer


@contextmanager
def _rounded(layer: nn.Module, *, bits: int, group_size: int | None) -> Iterator[None]:
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    before = [module.weight.data for module in linears]
    try:
        for module in linears:
            module.weight.data = _to_nearest(module.weight.data, bits=bits, group_size=group_size)
        yield
    finally:
        for module, weight in zip(linears, before, strict=True):
            module.weight.data = weight


def _to_nearest(weight: torch.Tensor, *, bits: int, group_size: int | None) -> torch.Tensor:
    """Symmetric, with a scale for each row, or for each group of a row's columns."""
    grouped = weight.reshape(weight.shape[0], -1, group_size or weight.shape[1])
    most = 2 ** (bits - 1) - 1
    scale = grouped.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / most
    return ((grouped / scale).round().clamp(-most - 1, most) * scale).reshape(weight.shape)
