"""The `vec` attention kernel in place of `amx`, which answers wrongly in bfloat16.

vLLM 0.32 chooses `amx` by the processor alone; no setting says otherwise. The measurement stands in
docs/log.md.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

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
