"""Which parameters are trained, which of them are decayed, and at what multiple of the rate.

`optimizer` hands the groups to AdamW. Layer-wise rates (`optimizer.layerDecay`; Howard & Ruder
2018, arXiv 1801.06146) and LoRA+ (`lora.loraplusLrRatio`; Hayou et al. 2024, arXiv 2402.12354) are
multipliers of the step's rate.
"""

from collections import defaultdict
from typing import Any

import torch

from tunesmith_api.finetunejob.training import Training

NamedParameters = dict[str, torch.nn.Parameter]

# PEFT's names of what LoRA+ calls B, of linear layers and of embeddings.
_LORA_B = ("lora_B", "lora_embedding_B")


def trainable_parameters(model: torch.nn.Module) -> NamedParameters:
    """The parameters that training changes, by name, in the model's own order."""
    # named_parameters() has tied weights once, under their first name; so has every checkpoint.
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def parameter_groups(model: Any, *, training: Training) -> list[dict[str, Any]]:
    """What is trained, for torch's optimizers: by weight decay and by `rate_multiplier`.

    Matrices are decayed, vectors (norms, biases, DoRA's magnitudes) are not.
    """
    parameters = trainable_parameters(model)
    multipliers = rate_multipliers(model, training=training)
    groups: dict[tuple[bool, float], list[torch.nn.Parameter]] = defaultdict(list)
    for name, weight in parameters.items():
        groups[weight.dim() > 1, multipliers[name]].append(weight)
    return [
        {
            "params": weights,
            "weight_decay": training.optimizer.weight_decay if is_decayed else 0.0,
            "rate_multiplier": multiplier,
        }
        # Matrices first, and high rates first: the same order in every process.
        for (is_decayed, multiplier), weights in sorted(
            groups.items(), key=lambda group: group[0], reverse=True
        )
    ]


def rate_multipliers(model: Any, *, training: Training) -> dict[str, float]:
    """The multiple of the step's rate that each trained parameter learns at, by its name."""
    top = model.config.get_text_config().num_hidden_layers - 1
    embeddings = tuple(
        # PEFT wraps an embedding that it adapts: what it adds stands beside `base_layer`.
        f"{path.removesuffix('.base_layer')}."
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
    )

    def multiplier(name: str) -> float:
        layer = -1 if name.startswith(embeddings) else _layer_of(name, top=top)
        ratio = training.lora.loraplus_lr_ratio if set(name.split(".")) & set(_LORA_B) else 1.0
        return ratio * training.optimizer.layer_decay ** (top - layer)

    return {name: multiplier(name) for name in trainable_parameters(model)}


def _layer_of(name: str, *, top: int) -> int:
    """The layer that a parameter belongs to; final norm and head count as part of the last."""
    # The first number in the path: experts and the like have theirs further down.
    return next((int(part) for part in name.split(".") if part.isdecimal()), top)
