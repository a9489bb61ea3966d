"""Linear layers of a processor, in oneDNN's own layout of weights while a model generates.

A step of generation multiplies few rows by every weight. Kernels for packed weights take a half to
four fifths of the time there (docs/log.md), as serving engines for processors know.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

# What the layout is chosen for; other numbers of rows are as right, and slower.
_ROWS = 16


@contextmanager
def packed_linears(model: nn.Module) -> Iterator[None]:
    """`model` with packed weights in fp32 layers on a processor; afterwards as it was, to the bit.

    A packed weight takes the place of the plain one, so that no second model is in memory; only
    that of a head which is the embedding, too, has both. Adapters stay as they are: PEFT reads
    their weights.
    """
    # NB: DoRA takes the norm of the plain weight at each pass (arXiv 2402.09353), by PEFT's name.
    normed = {
        module.base_layer
        for module in model.modules()
        if len(getattr(module, "lora_magnitude_vector", ()))
    }
    layers = [
        module
        for name, module in model.named_modules()
        if _can_pack(name, module) and module not in normed
    ]
    # Parameters with two owners are told by counting: `named_parameters` leaves repetitions out.
    shared = _shared_weights(model)
    with ExitStack() as packed:
        for layer in layers:
            packed.enter_context(_packed(layer, keep=id(layer.weight) in shared))
        yield


def _can_pack(name: str, module: nn.Module) -> bool:
    # NB: neither subclasses nor layers whose own `forward` was replaced, as compressed-tensors does
    # with those that it quantizes: what they do with their weight is their business.
    return (
        type(module) is nn.Linear
        and "forward" not in vars(module)
        and "lora_" not in name
        and module.weight.device.type == "cpu"
        and module.weight.dtype is torch.float32
        and torch.backends.mkldnn.is_available()
    )


def _shared_weights(model: nn.Module) -> set[int]:
    owners: dict[int, int] = {}
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            owners[id(weight)] = owners.get(id(weight), 0) + 1
    return {weight for weight, number in owners.items() if number > 1}


@contextmanager
def _packed(layer: nn.Linear, *, keep: bool) -> Iterator[None]:
    # NB: private operators, those that torch.compile's own code calls; torch has no public ones.
    # `pyproject.toml` pins torch's minor version, and a test holds their results to F.linear.
    with _ordinary_tensors():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS)  # noqa: SLF001
        bias = None if layer.bias is None else layer.bias.detach()
        if not keep:
            layer.weight.data = layer.weight.new_empty(0)

    def forward(rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
            rows, weight, bias, "none", [], ""
        )
        return product

    # On the instance, where `nn.Module.__call__` looks first.
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if not keep:
            with _ordinary_tensors():
                layer.weight.data = weight.to_dense()


@contextmanager
def _ordinary_tensors() -> Iterator[None]:
    # NB: what is made in inference mode can never take part in autograd again, and a caller may be
    # in it, while the model is calibrated or trained afterwards.
    with torch.inference_mode(mode=False), torch.no_grad():
        yield
