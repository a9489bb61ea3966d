"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), its learning rate, its state as tensors.

`loop` builds it of `spec.training.optimizer` and sets the rate of each step; `train_state` keeps
its state in checkpoints, without pickle.
"""

import math
from typing import cast

import torch

from tunesmith_api.finetunejob.training import Optimizer
from tunesmith_trainer.train.config import TrainConfig

NamedParameters = dict[str, torch.nn.Parameter]

# What torch.optim.AdamW keeps of each parameter. `step` counts per parameter, and corrects the bias
# of both moments: left out, a resumed run would go on with steps of another size.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def trainable_parameters(model: torch.nn.Module) -> NamedParameters:
    """The parameters that training changes, by name, in the model's own order."""
    # named_parameters() has tied weights once, under their first name; so has every checkpoint.
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def decay_groups(
    parameters: NamedParameters,
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The matrices, which are decayed, and the vectors (norms, biases), which are not."""
    decayed = [weight for weight in parameters.values() if weight.dim() > 1]
    kept = [weight for weight in parameters.values() if weight.dim() <= 1]
    return decayed, kept


def build_optimizer(parameters: NamedParameters, *, optimizer: Optimizer) -> torch.optim.AdamW:
    """AdamW over `parameters`; `set_rate` gives it the rate of each step."""
    decayed, kept = decay_groups(parameters)
    groups = [
        {"params": decayed, "weight_decay": optimizer.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optimizer.learning_rate,
        betas=(optimizer.beta1, optimizer.beta2),
        fused=True,  # one kernel for all tensors of a group, not several operations for each
    )


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    """Use `rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def learning_rate(config: TrainConfig, *, step: int) -> float:
    """Rate of optimizer step `step`, counted from 1.

    Linear warm-up, then the named decay to the floor; cosine after Loshchilov & Hutter 2017 (arXiv
    1608.03983), without restarts. The last step of the warm-up has the peak rate, the last step of
    all has the floor.
    """
    # A pure function of the step: there is no scheduler whose state a checkpoint could lose.
    peak = cast("float", config.training.optimizer.learning_rate)
    schedule = config.training.schedule
    if step <= config.warmup_steps:
        return peak * step / config.warmup_steps
    if schedule.type == "constant":
        return peak
    part_done = (step - config.warmup_steps) / (config.num_steps - config.warmup_steps)
    height = 1.0 - part_done
    if schedule.type == "cosine":
        height = (1.0 + math.cos(math.pi * part_done)) / 2.0
    floor = schedule.min_learning_rate_ratio
    return peak * (floor + (1.0 - floor) * height)


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
        # On the parameter's device, `step` included: the fused kernel wants all of it there.
        optimizer.state[parameter] = {
            moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS
        }
