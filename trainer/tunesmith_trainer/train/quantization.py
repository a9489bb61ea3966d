"""Frozen weights in four bits: QLoRA (Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes.

`adapters` calls it before the adapters are made. What is learnt is merged onto the weights as they
were, never onto these.
"""

from typing import Any

import torch
from torch import nn

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError


def quantize_linear_layers(model: Any, *, compute_dtype: torch.dtype, device: torch.device) -> None:
    """Replace every linear layer of `model` but its head by one whose weights are NF4.

    Blocks of 64 weights have a scale each, and scales are quantized in turn. Layers are quantized
    one by one, on `device`; products are computed in `compute_dtype`.

    Raises:
        BadInputError: bitsandbytes is not installed here.
    """
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise BadInputError(
            Reason.INVALID_SPEC,
            "training.lora.quantization: nf4 takes bitsandbytes, which this environment is "
            "without; install the extra tunesmith[qlora], or leave quantization out",
        ) from error
    head = model.get_output_embeddings()
    linear = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    for path, module in linear:
        quantized = Linear4bit(
            module.in_features,
            module.out_features,
            bias=False,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        quantized.weight = Params4bit(
            module.weight.data, quant_type="nf4", compress_statistics=True, module=quantized
        )
        quantized.bias = module.bias
        # NB: bitsandbytes would pack the weights anew for some processors, at the first forward
        # pass without gradients, and go on with other sums than those of training.
        quantized.support_avx512bf16_for_cpu = False
        holder, _, name = path.rpartition(".")
        setattr(model.get_submodule(holder), name, quantized.to(device))
    # PEFT asks for it before it chooses its own layer.
    model.is_loaded_in_4bit = True
