"""The model as it is trained: every weight in fp32, or frozen with LoRA adapters in fp32.

`worker` builds it, `loop` trains it, `export` writes it out.
"""

from pathlib import Path
from typing import Any

import torch

from tunesmith_trainer.models import load_model
from tunesmith_trainer.train.config import LoraRecipe, Recipe
from tunesmith_trainer.train.targets import ALL_LINEAR, refuse_unfit_targets


def build_trainable(folder: Path, *, recipe: Recipe, device: torch.device) -> Any:
    """The model of `folder`, ready to be trained on `device`; adapters start from the seed.

    Raises:
        BadInputError: `lora.targetModules` does not fit this model.
    """
    model = load_model(folder, dtype=torch.float32)
    model.config.use_cache = False
    if recipe.lora is not None:
        torch.manual_seed(recipe.seed)
        model = _with_adapters(model, lora=recipe.lora)
        if recipe.precision == "bf16":
            _round_frozen_layers(model)
    return model.to(device)


def _with_adapters(model: Any, *, lora: LoraRecipe) -> Any:
    from peft import LoraConfig, get_peft_model

    names = list(lora.target_modules)
    refuse_unfit_targets(names, model=model)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if names == [ALL_LINEAR] else names,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _round_frozen_layers(model: Any) -> None:
    """Hold frozen linear layers in bf16: autocast would cast them so for every product.

    The head stays in fp32, since its matrix may be the embedding too.
    """
    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            _round_frozen(module)


def _round_frozen(layer: torch.nn.Linear) -> None:
    for parameter in layer.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
