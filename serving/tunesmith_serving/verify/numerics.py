"""Which of vLLM's kernels the model runs on, and which of them are known to be wrong.

Answers show most faults, but int8 sums that overflow now and then change few of them: what can be
told for certain is not left to statistics.
"""

from dataclasses import dataclass

_REPLACED = (
    "Tunesmith's vLLM plugin replaces that kernel: unset VLLM_PLUGINS, or let it name tunesmith, "
    "and run `make setup`."
)


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the model runs on.

    The attention kernel, whether int8 products are made of two, and whether they are exact.
    """

    attention: str
    two_products: bool
    exact_products: bool

    @property
    def name(self) -> str:
        """For people, and for the facts of the stage."""
        return f"{self.attention}, int8 in two products" if self.two_products else self.attention

    def faults(self, *, rounds_activations: bool) -> list[str]:
        """What must not serve, with its remedy.

        int8 products count only for models with int8 activations.
        """
        found = []
        if self.attention == "amx":
            found.append(
                f"vLLM's attention kernel for AMX is in use, which answers wrongly. {_REPLACED}"
            )
        if rounds_activations and not self.exact_products:
            found.append(f"vLLM's int8 products overflow on this processor. {_REPLACED}")
        return found
