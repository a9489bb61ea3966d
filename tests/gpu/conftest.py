"""One CUDA device, or every test here is skipped, which the end of the suite says in red.

Torch alone: no Ray, no network. What was measured is printed at the end as JSON lines, and kept in
`build/gpu.jsonl` with the card that it was measured on.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_runs import write_base
from tunesmith_trainer.devices import prefer_deterministic_kernels

MEASURED = pytest.StashKey[list[dict[str, object]]]()
RESULTS = Path("build/gpu.jsonl")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here; nothing that needs one was tested")
    # As Ray's workers are started, and as each of them sets up torch.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    prefer_deterministic_kernels()
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> dict[str, Path]:
    """Random weights in the shapes of Llama 3.2 1B and of SmolLM2-135M."""
    root = tmp_path_factory.mktemp("bases")
    return {shape: write_base(root / shape, shape=shape, device=device) for shape in ("1B", "135M")}


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Any:
    """Keep what was measured for the end of the suite."""
    return request.config.stash[MEASURED].append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = [json.dumps(measured) for measured in config.stash[MEASURED]]
    for line in lines:
        terminalreporter.write_line(line)
    if lines:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
