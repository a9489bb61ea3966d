"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), and its state as tensors.

`loop` builds it and sets the rate of each step, which `schedule` knows; `train_state` keeps its
state in checkpoints, by the names of parameters and without pickle.
"""

from typing import Any, Final, cast

import torch

from tunesmith_api.finetunejob.training import Training
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.parameter_groups import (
    NamedParameters,
    parameter_groups,
)

# `step` corrects the bias of both moments: left out, a resumed run would go on with steps of
# another size. torch counts it per parameter in a tensor, bitsandbytes in an int.
_STEP: Final = "step"
_MOMENTS: Final = (_STEP, "exp_avg", "exp_avg_sq")


def build_optimizer(model: Any, *, training: Training) -> torch.optim.Optimizer:
    """AdamW over what is trained of `model`; `set_rate` gives it the rate of each step.

    Raises:
        BadInputError: bitsandbytes, which the 8-bit one is of, is not installed here.
    """
    optimizer = training.optimizer
    groups = parameter_groups(model, training=training)
    rate, betas = cast("float", optimizer.learning_rate), (optimizer.beta1, optimizer.beta2)
    if optimizer.type == "adamw":
        # fused: one kernel for all tensors of a group, not several operations for each
        return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise BadInputError(
            Reason.INVALID_SPEC,
            "training.optimizer.type: adamw_8bit takes bitsandbytes, which this environment is "
            "without; install the extra tunesmith[qlora], or choose adamw",
        ) from error
    eight_bits: torch.optim.Optimizer = AdamW8bit(groups, lr=rate, betas=betas)
    return eight_bits


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` from the next step on, each group its own multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_multiplier"]


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, *, parameters: NamedParameters
) -> dict[str, torch.Tensor]:
    """Step count and moments of every parameter, as `exp_avg/<parameter>` and so on.

    Moments of eight bits come with their scales and their code.
    """
    return {
        # A copy of the code, which is one tensor for all: safetensors takes none twice.
        f"{kind}/{name}": value.clone() if kind.startswith("qmap") else torch.as_tensor(value)
        for name, parameter in parameters.items()
        for kind, value in optimizer.state[parameter].items()
    }


def empty_optimizer_tensors(parameters: NamedParameters) -> dict[str, torch.Tensor]:
    """What `optimizer_tensors` returns of torch's AdamW, of zeros: places to read shards into."""
    return {
        f"{kind}/{name}": torch.zeros((), device=parameter.device)
        if kind == _STEP
        else torch.zeros_like(parameter)
        for name, parameter in parameters.items()
        for kind in _MOMENTS
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, torch.Tensor],
    *,
    parameters: NamedParameters,
) -> None:
    """Put back what `optimizer_tensors` returned."""
    kinds = dict.fromkeys(key.partition("/")[0] for key in tensors)
    is_fused = isinstance(optimizer, torch.optim.AdamW)
    for name, parameter in parameters.items():
        state: dict[str, Any] = {
            # On the parameter's device, `step` included: the fused kernel wants all of it there.
            kind: tensors[f"{kind}/{name}"].to(parameter.device)
            for kind in kinds
            if f"{kind}/{name}" in tensors
        }
        if not is_fused:
            state[_STEP] = int(state[_STEP].item())
        optimizer.state[parameter] = state
