"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), and its state as tensors.

`loop` builds it and sets the rate of each step, which `schedule` knows; `train_state` keeps its
state in checkpoints, by the names of parameters and without pickle.
"""

from typing import Any

import torch

from tunesmith_api.finetunejob.training import Training
from tunesmith_trainer.train.parameter_groups import (
    NamedParameters,
    parameter_groups,
)

# What torch.optim.AdamW keeps of each parameter. `step` counts per parameter, and corrects the bias
# of both moments: left out, a resumed run would go on with steps of another size.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def build_optimizer(model: Any, *, training: Training) -> torch.optim.AdamW:
    """AdamW over what is trained of `model`; `set_rate` gives it the rate of each step."""
    optimizer = training.optimizer
    return torch.optim.AdamW(
        parameter_groups(model, training=training),
        lr=optimizer.learning_rate,
        betas=(optimizer.beta1, optimizer.beta2),
        fused=True,  # one kernel for all tensors of a group, not several operations for each
    )


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    """Use `rate` from the next step on, each group its own multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_multiplier"]


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
