"""A vLLM plugin: kernels of vLLM that compute wrongly are replaced before a model is loaded.

vLLM finds it by its entry point (`vllm.general_plugins` in pyproject.toml) and calls `register` in
each of its processes, unless VLLM_PLUGINS names others. Each replacement is made only where the
fault is. `verify` asks once more which kernels are in use (`verify/numerics.py`), so that a model
is refused where this plugin did not run. The measurements are in docs/log.md.

- *Attention*: on processors with AMX vLLM 0.32 chooses the kernel `amx` for bfloat16, which answers
  wrongly; `vec` takes its place.
- *int8 products*: without VNNI, oneDNN adds pairs of 8-bit products in 16 bits. With weights beyond
  ±64 the sums overflow, and a W8A8 model talks nonsense. With the weight written as 2·high + low,
  where high lies in [-64, 63] and low is 0 or 1, both products are exact.
- *int8 layers*: with AMX they take rows only, and models that vLLM computes by transformers'
  own code (SmolLM3) hand them sequences of rows: "mat1 must be a 2D tensor".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from tunesmith_serving.platforms import installed_platform
from tunesmith_serving.processor import has_amx, read_flags

# NB: neither torch nor vLLM is imported before a function needs it. `verify` imports this module
# before it has set the variables that vLLM reads while it is imported.

# The largest weight and activation of symmetric int8.
_LARGEST = 127

ChooseKernel = Callable[..., str]


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


def register() -> None:
    """Replace faulty kernels; harmless where there are none, and when called again.

    A second time the int8 product is found exact, because it is the replacement that answers.
    """
    # NB: the build for GPUs has none of these kernels, and vLLM does not start if a plugin raises.
    if installed_platform() == "gpu":
        return
    if has_amx(read_flags()):
        choose_vector_kernel()
        flatten_int8_inputs()
    if not is_exact():
        use_two_products()


def choose_vector_kernel() -> None:
    """Let every attention layer of this process take `vec` where vLLM would take `amx`."""
    from vllm.v1.attention.backends import cpu_attn

    # vLLM goes by the processor, the number format and the cache's block size, and has no setting
    # for it; limiting oneDNN's instruction set instead crashes the worker.
    cpu_attn._get_attn_isa = without_amx(cpu_attn._get_attn_isa)  # noqa: SLF001 - nothing public chooses


def without_amx(choose: ChooseKernel) -> ChooseKernel:
    """vLLM's own choice of an attention kernel, with `vec` for `amx`."""

    @wraps(choose)
    def chosen(*arguments: Any, **named: Any) -> str:
        kernel = choose(*arguments, **named)
        return "vec" if kernel == "amx" else kernel

    return chosen


def flatten_int8_inputs() -> None:
    """Let the int8 layers of this process take inputs of any shape, as without AMX."""
    from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUInt8ScaledMMLinearKernel

    kernel: Any = CPUInt8ScaledMMLinearKernel
    kernel._apply_weights_sgl = on_rows(kernel._apply_weights_sgl)  # noqa: SLF001 - nothing public


def on_rows(apply: Callable[..., Any]) -> Callable[..., Any]:
    """`apply` of a layer's kernel for inputs that have more dimensions than rows and columns."""

    @wraps(apply)
    def applied(kernel: Any, layer: Any, x: Any, bias: Any = None) -> Any:
        rows = apply(kernel, layer, x.reshape(-1, x.shape[-1]), bias)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])

    return applied


def is_exact() -> bool:
    """Whether vLLM's int8 product is right where its sums are largest.

    The kernel is asked, not the processor's flags: which instructions oneDNN takes is its affair.
    """
    import torch
    from vllm import _custom_ops as ops

    k, n, m = 256, 64, 16
    # NB: transposed, as vLLM hands weights over: columns lie one after another.
    weight = torch.full((n, k), _LARGEST, dtype=torch.int8).t()
    scales = torch.ones((n, 1))
    output = torch.empty((m, n))
    handle = ops.create_onednn_scaled_mm(weight, scales, torch.float32, True, False)  # noqa: FBT003 - vLLM's order
    rows = torch.full((m, k), _LARGEST, dtype=torch.int8)
    ops.onednn_scaled_mm(handle, rows, output, torch.ones((m, 1)), None, None, None)
    return bool((output == float(_LARGEST * _LARGEST * k)).all())


def computes_two_products() -> bool:
    """Whether `use_two_products` was called in this process."""
    from vllm import _custom_ops as ops

    return bool(ops.create_onednn_scaled_mm.__module__ == __name__)


def use_two_products() -> None:
    """Let every int8 layer of this process compute with two exact products.

    It takes twice the multiplications.
    """
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
        # So is the bias added once, here with the high half.
        multiply(handle.high, rows, output, scale, None, None, bias)
        remainder = output.new_empty(output.shape)
        multiply(handle.low, rows, remainder, scale, zero, adjust, None)
        return output.add_(remainder)

    # NB: attributes of the module. vLLM's layers look them up there for each call; a name that was
    # imported from it would keep the old function.
    ops.create_onednn_scaled_mm, ops.onednn_scaled_mm = create_two, multiply_two


def split_weight(weight: Any) -> tuple[Any, Any]:
    """(high, low) with weight = 2·high + low, both int8 in the layout of `weight`."""
    # An arithmetic shift rounds down, so low is 0 or 1 for negative weights as well.
    return weight >> 1, weight & 1
