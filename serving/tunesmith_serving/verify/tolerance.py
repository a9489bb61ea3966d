"""How close two tokens must lie for neither to be wrong: the steps of the served arithmetic."""

from collections.abc import Mapping
from typing import Any

# Nats. Logits of a favourite lie between 16 and 32, where bfloat16 has steps of 0.125. float32 has
# none to speak of; sums in another order remain. Rounding activations to 8 bits amplifies even
# those: docs/log.md has the measurement.
TIES = {"bfloat16": 0.125, "float32": 0.01}
TIE_WITH_ROUNDED_ACTIVATIONS = 0.25


def tie_for(config: Mapping[str, Any], *, dtype: str) -> float:
    """Nats within which two tokens are equal to a model with this `config.json`."""
    return TIE_WITH_ROUNDED_ACTIVATIONS if rounds_activations(config) else TIES[dtype]


def rounds_activations(config: Mapping[str, Any]) -> bool:
    """Whether a model's `config.json` asks for quantized activations."""
    groups = config.get("quantization_config", {}).get("config_groups", {})
    return any(group.get("input_activations") for group in groups.values())
