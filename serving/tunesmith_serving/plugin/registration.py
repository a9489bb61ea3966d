"""Decides which of vLLM's kernels must not be used on this machine, and replaces those."""

from tunesmith_serving.plugin.attention import choose_vector_kernel
from tunesmith_serving.plugin.integer_products import is_exact, use_two_products
from tunesmith_serving.processor import has_amx, read_flags


def register() -> None:
    """Replace faulty kernels; harmless where there are none, and when called again."""
    if has_amx(read_flags()):
        choose_vector_kernel()
    if not is_exact():
        use_two_products()
