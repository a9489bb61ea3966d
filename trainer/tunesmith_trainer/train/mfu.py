"""Model FLOPs utilization: the arithmetic that training needs, as part of what its devices can do.

MFU as PaLM defines it (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), and with its
convention that attention counts the whole square, though half of it is masked. What is computed
beyond need counts for nothing: padding, and activations that checkpointing computes again. Nor does
the head of positions without a target. A device whose peak is not in the table has no MFU.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Self

import torch

from tunesmith_trainer.train.token_counts import TokenCounts

# Dense bf16 products with sums in fp32, in FLOP/s, by the name that the driver gives; from the data
# sheets of NVIDIA (A10, A100, L4, L40S, H100, H200, DGX B200) and AMD (MI300X, MI325X). Where a
# sheet tells the number with sparsity alone, half of it. NB: by the whole name. A slice of a card
# (MIG) has a longer one, and boards of one chip differ by a third.
PEAK_BF16_FLOPS: Final = {
    "NVIDIA A10": 125e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA B200": 2250e12,
    "AMD Instinct MI300X": 1307e12,
    "AMD Instinct MI325X": 1307e12,
}

# A product of a matrix with a vector: a multiplication and an addition for each number.
_PRODUCT: Final = 2
# Of each head's number two products with every other position: with queries and with values.
_ATTENTION: Final = 2 * _PRODUCT
# The backward pass asks for a gradient of what goes in, and one of the weight or the other factor.
_BOTH_GRADIENTS: Final = 2
_LAYER: Final = re.compile(r"\.(\d+)\.")


def peak_flops(device: torch.device, *, precision: str) -> float | None:
    """What `device` computes in a second at most; None where that is not known."""
    # fp32 may run as TF32, and a processor's peak depends on its clock.
    if device.type == "cpu" or precision != "bf16":
        return None
    name = torch.get_device_module(device).get_device_name(device)
    return PEAK_BF16_FLOPS.get(name)


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """FLOPs of training by what they are paid for: an input, a target, a square of a row."""

    per_input: float
    per_target: float
    per_attended: float

    @classmethod
    def of(cls, model: Any) -> Self | None:
        """Those of `model` as it is trained; None for experts, of which each token sees a few."""
        config = model.config.get_text_config()
        if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts")):
            return None
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        of_head = set(head.modules())
        # Below the first layer that is trained nothing asks for a gradient.
        flows, layers = _is_trained(embedding), set[str]()
        per_input = 0
        for path, module in model.named_modules():
            if not isinstance(module, torch.nn.Linear) or module in of_head:
                continue
            flows = flows or _is_trained(module)
            layer = _LAYER.search(path)
            if flows and layer:
                layers.add(layer[1])
            # NB: by its features. A weight that is quantized or sharded has fewer numbers.
            product = _PRODUCT * module.in_features * module.out_features
            per_input += product * (1 + flows + _is_trained(module))
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        passes = config.num_hidden_layers + _BOTH_GRADIENTS * len(layers)
        return cls(
            per_input=per_input,
            per_target=_PRODUCT * head.in_features * head.out_features * (2 + _is_trained(head)),
            per_attended=_ATTENTION * heads * width * passes,
        )

    def of_step(self, counts: TokenCounts) -> float:
        """The FLOPs that a step over these tokens needs."""
        return (
            self.per_input * counts.inputs
            + self.per_target * counts.trained
            + self.per_attended * counts.attended
        )


def _is_trained(module: Any) -> bool:
    return any(weight.requires_grad for weight in module.parameters())
