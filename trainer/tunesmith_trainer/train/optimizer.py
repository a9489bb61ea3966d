"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), and its state as named tensors.

`loop` steps it, `checkpoints` keeps its state without pickle.
"""

import torch

from tunesmith_trainer.train.config import Recipe

NamedParameters = dict[str, torch.nn.Parameter]

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def trainable_parameters(model: torch.nn.Module) -> NamedParameters:
    """The parameters that training changes, by name, in the model's own order."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def decay_groups(
    parameters: NamedParameters,
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The matrices, which are decayed, and the vectors (norms, biases), which are not."""
    decayed = [each for each in parameters.values() if each.dim() > 1]
    kept = [each for each in parameters.values() if each.dim() <= 1]
    return decayed, kept


def build_optimizer(parameters: NamedParameters, *, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over `parameters`; `set_rate` gives it the rate of each step."""
    decayed, kept = decay_groups(parameters)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        fused=True,
    )


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    """Use `rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(
    optimizer: torch.optim.AdamW, *, parameters: NamedParameters
) -> dict[str, torch.Tensor]:
    """Step count and both moments of every parameter, as `exp_avg/<parameter>` and so on."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment]
        for name, parameter in parameters.items()
        for moment in _MOMENTS
    }


def restore_optimizer(
    optimizer: torch.optim.AdamW,
    tensors: dict[str, torch.Tensor],
    *,
    parameters: NamedParameters,
) -> None:
    """Put back what `optimizer_tensors` returned."""
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS
        }
