"""The arithmetic that a model is served with: its kernels, those that are wrong, and its ties.

Answers show most faults, but int8 sums that overflow now and then change few of them: what can be
told for certain is not left to statistics. The other way round, two sound engines may choose
different tokens where their arithmetic cannot tell them apart. docs/log.md has the measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_REPLACED: Final = (
    "Tunesmith's vLLM plugin replaces that kernel: unset VLLM_PLUGINS, or let it name tunesmith, "
    "and run `make setup`."
)

# Nats. Logits of a favourite lie between 16 and 32, where bfloat16 has steps of 0.125 and float16
# of 1/64. float32 has none to speak of; sums in another order remain.
TIES: Final = {"bfloat16": 0.125, "float16": 0.015625, "float32": 0.01}
# Rounding activations to 8 bits amplifies even those: noise of one part in ten million moved a
# model by 0.13 nats on average, and its agreement with itself to 0.93. The width was chosen from
# those figures; its own rate of false refusals was not measured.
TIE_WITH_ROUNDED_ACTIVATIONS: Final = 0.25


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
        faults = []
        if self.attention == "amx":
            faults.append(
                f"vLLM's attention kernel for AMX is in use, which answers wrongly. {_REPLACED}"
            )
        # NB: told by the kernel alone. Overflows moved agreement no further than 0.912 to 0.895.
        if rounds_activations and not self.exact_products:
            faults.append(f"vLLM's int8 products overflow on this processor. {_REPLACED}")
        return faults


def tie_for(config: Mapping[str, Any], *, dtype: str) -> float:
    """Nats within which two tokens are equal to a model with this `config.json`."""
    return TIE_WITH_ROUNDED_ACTIVATIONS if rounds_activations(config) else TIES[dtype]


def rounds_activations(config: Mapping[str, Any]) -> bool:
    """Whether a model's `config.json` asks for quantized activations."""
    # In the format of compressed-tensors; W4A16 has the group, and null for its activations.
    groups = config.get("quantization_config", {}).get("config_groups", {})
    return any(group.get("input_activations") for group in groups.values())
