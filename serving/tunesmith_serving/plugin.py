"""Exact int8 matrix products on processors without VNNI, where vLLM's saturate.

Without VNNI, oneDNN adds pairs of 8-bit products in 16 bits: with weights beyond ±64 the sums
overflow, and a W8A8 model talks nonsense. With the weight written as 2·high + low, where high lies
in [-64, 63] and low is 0 or 1, both products are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from tunesmith_serving.processor import has_amx, read_flags

EDGE = 127


@dataclass(frozen=True, slots=True)
class TwoProducts:
    """vLLM's handles of the two halves of one weight of shape (k, n).

    `scales` are those of the high half: vLLM keeps their address only, so they must live on here.
    """

    high: Any
    low: Any
    scales: Any
    k: int
    n: int


def split_weight(weight: Any) -> tuple[Any, Any]:
    """(high, low) with weight = 2·high + low, both int8 in the layout of `weight`."""
    return weight >> 1, weight & 1


def is_exact() -> bool:
    """Whether vLLM's int8 product is right where its sums are largest."""
    import torch
    from vllm import _custom_ops as ops

    k, n, m = 256, 64, 16
    weight = torch.full((n, k), EDGE, dtype=torch.int8).t()
    scales = torch.ones((n, 1))
    output = torch.empty((m, n))
    handle = ops.create_onednn_scaled_mm(weight, scales, torch.float32, True, False)  # noqa: FBT003 - vLLM's order
    rows = torch.full((m, k), EDGE, dtype=torch.int8)
    ops.onednn_scaled_mm(handle, rows, output, torch.ones((m, 1)), None, None, None)
    return bool((output == float(EDGE * EDGE * k)).all())


def computes_two_products() -> bool:
    """Whether `use_two_products` was called in this process."""
    from vllm import _custom_ops as ops

    return bool(ops.create_onednn_scaled_mm.__module__ == __name__)


def use_two_products() -> None:
    """Let every int8 layer of this process compute with two exact products."""
    from vllm import _custom_ops as ops

    create, multiply = ops.create_onednn_scaled_mm, ops.onednn_scaled_mm

    def create_two(
        weight: Any, scales: Any, output_type: Any, dynamic: Any, use_azp: Any, *rest: Any
    ) -> TwoProducts:
        high, low = split_weight(weight)
        doubled = 2 * scales
        return TwoProducts(
            # The zero point is taken off once, with the low half.
            high=create(high, doubled, output_type, dynamic, False, *rest),  # noqa: FBT003
            low=create(low, scales, output_type, dynamic, use_azp, *rest),
            scales=doubled,
            k=weight.shape[0],
            n=weight.shape[1],
        )

    def multiply_two(  # noqa: PLR0917 - vLLM's order
        handle: TwoProducts, rows: Any, output: Any, scale: Any, zero: Any, adjust: Any, bias: Any
    ) -> Any:
        multiply(handle.high, rows, output, scale, None, None, bias)
        remainder = output.new_empty(output.shape)
        multiply(handle.low, rows, remainder, scale, zero, adjust, None)
        return output.add_(remainder)

    ops.create_onednn_scaled_mm, ops.onednn_scaled_mm = create_two, multiply_two


ChooseKernel = Callable[..., str]


def without_amx(choose: ChooseKernel) -> ChooseKernel:
    """vLLM's own choice of an attention kernel, with `vec` for `amx`."""

    @wraps(choose)
    def chosen(*arguments: Any, **named: Any) -> str:
        kernel = choose(*arguments, **named)
        return "vec" if kernel == "amx" else kernel

    return chosen


def choose_vector_kernel() -> None:
    """Let every attention layer of this process take `vec` where vLLM would take `amx`."""
    from vllm.v1.attention.backends import cpu_attn

    cpu_attn._get_attn_isa = without_amx(cpu_attn._get_attn_isa)  # noqa: SLF001 - vLLM has no setting for it


def register() -> None:
    """Replace faulty kernels; harmless where there are none, and when called again."""
    if has_amx(read_flags()):
        choose_vector_kernel()
    if not is_exact():
        use_two_products()
