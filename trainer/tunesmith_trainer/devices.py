"""What this process can compute on: asked of `torch.accelerator`, whoever made the device.

CUDA, ROCm and XPU are in torch's own builds, TPUs come with a backend that torch loads by itself.
Only CUDA was ever run.
"""

from typing import Any, Literal

import torch

CPU = torch.device("cpu")


def current_device() -> torch.device:
    """The accelerator of this process, or its processor."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return CPU if accelerator is None else accelerator


def has_accelerator() -> bool:
    """Whether there is a device beside the processor."""
    return torch.accelerator.is_available()


def num_accelerators() -> int:
    """How many of them this process sees."""
    return torch.accelerator.device_count()


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes in bf16 itself; NVIDIA's cards do from Ampere on."""
    if device.type == "cpu":
        return True
    module: Any = torch.get_device_module(device)
    if device.type == "cuda":
        # NB: without it, torch counts cards that only pretend to, and are slower then.
        return bool(module.is_bf16_supported(including_emulation=False))
    asks = getattr(module, "is_bf16_supported", None)
    return bool(asks()) if asks else True


def name_of(device: torch.device) -> str:
    """What people call the device."""
    module: Any = torch.get_device_module(device)
    asks = getattr(module, "get_device_name", None)
    return str(asks(device)) if asks else device.type


def prefer_deterministic_kernels() -> None:
    """Let a resumed run compute what an undisturbed one does, where torch has such a kernel."""
    # warn_only: an operation without one trains on; the curve may then differ in the last bits.
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # Torch would fill every new tensor with NaN first, to show who reads what nobody wrote: 6 % of
    # the time of a step on a card (docs/log.md).
    torch.utils.deterministic.fill_uninitialized_memory = False


def use_tensor_cores(precision: Literal["bf16", "fp32"]) -> None:
    """Let fp32 products beside bf16 ones run in TF32; those of a run in fp32 stay exact."""
    # With bf16 these are the adapters', and TF32 has three bits more than what they are added to.
    torch.set_float32_matmul_precision("high" if precision == "bf16" else "highest")
