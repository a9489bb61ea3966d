"""Weights, gradients and moments spread over the workers: PyTorch's FSDP2.

Rajbhandari et al. 2019 (ZeRO, arXiv 1910.02054), Zhao et al. 2023 (arXiv 2304.11277). `adapters`
shards the model layer by layer as it leaves its file, so that no worker ever holds all of it;
`export` gathers what was trained. From then on every forward pass is a collective.

FSDP2 gathers and reduces in hooks of a module's forward pass. The layers have them; embedding, last
norm and head have not, since an objective may call the head any number of times, one worker more
often than another. What is trained of these is whole from before a pass until its gradients are
there (`whole_outer_weights`); what is frozen is on every worker, as it would be during a pass.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor

from tunesmith_trainer.train.freezing import layer_stack
from tunesmith_trainer.train.parameter_dtypes import hold

# On the model: where the trained parameters outside of its layers are, by their shards.
_OUTER: Final = "outer_shards"
Places = list[tuple[nn.Module, str]]


def shard(
    model: Any,
    *,
    precision: Literal["bf16", "fp32"],
    is_gathered_in_bf16: bool,
    device: torch.device,
    num_workers: int,
) -> None:
    """Leave this worker's part of the parameters in `model`, on `device`; all workers call it.

    `is_gathered_in_bf16` sends a layer's weights in bf16 for its pass, and computes in it; the
    sharded weights and the sums of gradients are fp32 all the same.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if is_gathered_in_bf16 else None, reduce_dtype=torch.float32
    )
    mesh = init_device_mesh(device.type, (num_workers,))
    # A chunk of states that an objective hands to the head is one, and nobody writes to it.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    layers = model.get_submodule(layer_stack(model))
    for layer in layers:
        hold(layer, model=model, precision=precision, device=device)
        fully_shard(layer, mesh=mesh, mp_policy=policy)
        # The loss is a sum over the whole batch, divided already: gradients are added up, too.
        layer.set_gradient_divide_factor(1.0)
        # gloo adds and nothing else; NCCL would multiply as it adds.
        layer.set_force_sum_reduction_for_comms(True)
    hold(model, model=model, precision=precision, device=device)
    _shard_outer(model, mesh=mesh)
    # With nothing of its own: it lets a layer be gathered while the one before it computes.
    fully_shard(_holder_of(layers, model=model), mesh=mesh, ignored_params=set(_outer(model)))
    model.to(device)  # the buffers outside of the layers


@contextmanager
def whole_outer_weights(model: Any) -> Iterator[None]:
    """Put the whole of what is trained outside of the layers into `model`, until the block is left.

    A backward pass belongs into the block: what it leaves is added up over the workers at its end.
    Nothing happens to a model that is not sharded.

    NB: all workers have to enter it, and to leave it.
    """
    shards: Mapping[nn.Parameter, Places] = getattr(model, _OUTER, {})
    for kept, places in shards.items():
        full = nn.Parameter(whole(kept.detach()))
        for module, name in places:
            module.register_parameter(name, full)
    try:
        yield
    finally:
        for kept, places in shards.items():
            module, name = places[0]
            gradient = module.get_parameter(name).grad
            for module, name in places:
                module.register_parameter(name, kept)
            if gradient is not None:
                _add_sum(gradient, to=kept)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that `tensor` is a shard of, on every worker; itself if it is none.

    NB: all workers have to call it for the same tensors in the same order.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def gather(shards: Mapping[str, torch.Tensor], *, keep: bool) -> dict[str, torch.Tensor]:
    """The whole of each tensor in the memory of the processor, on those workers that `keep` it.

    One after the other, so that no device holds more than one of them.
    """
    gathered = {}
    for name, part in shards.items():
        full = whole(part.detach())
        if keep:
            gathered[name] = full.cpu()
    return gathered


def _shard_outer(model: nn.Module, *, mesh: DeviceMesh) -> None:
    outer: dict[nn.Parameter, nn.Parameter] = {}
    shards: dict[nn.Parameter, Places] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor) or not parameter.requires_grad:
                continue
            if parameter not in outer:
                # Every worker has loaded the same numbers: none sends its own.
                spread = distribute_tensor(parameter.data, mesh, [Shard(0)], src_data_rank=None)
                outer[parameter] = nn.Parameter(spread)
            # NB: one object where one matrix is embedding and head.
            module.register_parameter(name, outer[parameter])
            shards.setdefault(outer[parameter], []).append((module, name))
    setattr(model, _OUTER, shards)


def _outer(model: nn.Module) -> Iterator[nn.Parameter]:
    layers = (module for module in model.modules() if isinstance(module, FSDPModule))
    inner = {parameter for layer in layers for parameter in layer.parameters()}
    return (parameter for parameter in model.parameters() if parameter not in inner)


def _holder_of(layers: nn.Module, *, model: nn.Module) -> nn.Module:
    return next(module for module in model.modules() if layers in module.children())


@torch.no_grad()
def _add_sum(gradient: torch.Tensor, *, to: nn.Parameter) -> None:
    of_shard: Any = to.data
    partial = DTensor.from_local(gradient, of_shard.device_mesh, [Partial()])
    summed = partial.redistribute(placements=of_shard.placements)
    to.grad = summed if to.grad is None else to.grad + summed
