"""The type that every weight is held in while it is trained: fp32 what changes, bf16 what need not.

`adapters` calls this once the model has its adapters. A model comes as it is stored, its weights
still in the file: they are cast one by one, so that at no time all of them are there twice.
"""

from typing import Any, Final, Literal

import torch
from torch import nn

# Read by autocast's own casts, so that holding them in bf16 changes no product.
_CAST_BY_AUTOCAST: Final = (nn.Linear,)


def hold(
    module: nn.Module, *, model: Any, precision: Literal["bf16", "fp32"], device: torch.device
) -> None:
    """Cast the parameters of `module`, a part of `model` or all of it, on their way to `device`.

    Trained parameters are fp32: a step of AdamW is smaller than half a step of bf16 for most
    weights, and would be rounded away. With precision bf16, frozen linear layers are bf16, as
    autocast would cast them for every product; so are embedding and head where they are stored so,
    which loses nothing. Norms stay fp32, and bytes of quantized weights as they are.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    seen: set[nn.Parameter] = set()
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            is_half = (
                precision == "bf16"
                and not parameter.requires_grad
                and _may_be_half(part, parameter, matrices=(head, embedding))
            )
            # NB: layer by layer, never model.to(bfloat16): norms and the frequencies of the rotary
            # embedding are used outside of autocast's casts, and would lose precision for good.
            if parameter.is_floating_point():
                dtype = torch.bfloat16 if is_half else torch.float32
                parameter.data = parameter.data.to(device=device, dtype=dtype)


def _may_be_half(part: nn.Module, parameter: nn.Parameter, *, matrices: tuple[Any, Any]) -> bool:
    if part in matrices:
        # One matrix may be both, and the embedding is read without a cast: only what was bf16.
        return parameter.dtype == torch.bfloat16
    return isinstance(part, _CAST_BY_AUTOCAST)
