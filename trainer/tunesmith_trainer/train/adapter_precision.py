"""Adapters under bf16 autocast: what they add is computed, and added, in fp32.

PEFT adds an adapter's delta to the output of its layer in the type of that output. In bf16 most of
a small delta is less than half a step of the sum and is rounded away: 40 % of what five steps had
learnt (docs/log.md). `adapters` calls this when the model is built; checkpoints stay as they are.
"""

from typing import Any

import torch
from torch import nn


class Fp32Linear(nn.Linear):
    """A linear layer that computes in fp32 whatever autocast says."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def keep_updates_in_fp32(model: nn.Module) -> None:
    """Let every LoRA layer of `model` (PEFT's) compute its delta, and the sum with it, in fp32.

    The frozen product keeps the type that autocast gives it. What the layer returns is fp32: cast
    to bf16 once more, the delta would be lost after all.
    """
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            _compute_in_fp32(module.lora_A)
            _compute_in_fp32(module.lora_B)
            module.get_base_layer().register_forward_hook(_to_fp32)


def read_embeddings_in_fp32(model: Any) -> None:
    """Let layers add to fp32 where the embedding's matrix is bf16, as they do where it is fp32."""
    model.get_input_embeddings().register_forward_hook(_to_fp32)


def _compute_in_fp32(projections: nn.ModuleDict) -> None:
    for name, given in projections.items():
        # On the meta device: no weights are drawn, and the generator stays where it was. The
        # parameter is the same object, so names in checkpoints and in PEFT's files are, too.
        replaced = Fp32Linear(given.in_features, given.out_features, bias=False, device="meta")
        replaced.weight = given.weight
        replaced.train(given.training)
        projections[name] = replaced


def _to_fp32(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()
