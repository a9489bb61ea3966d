"""The targets that people and CI rely on exist and explain themselves."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TARGETS = {
    "bench",
    "clean",
    "crds",
    "dashboards",
    "demo",
    "docs",
    "format",
    "help",
    "lint",
    "lock",
    "setup",
    "test",
    "test-cluster",
    "test-e2e",
    "test-gpu",
    "test-long",
    "test-model",
    "test-node",
    "test-unit",
    "type",
}


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    """Targets and their explanations, as plain `make` prints them."""
    make = shutil.which("make")
    assert make is not None
    result = subprocess.run([make], cwd=ROOT, capture_output=True, text=True, check=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    return dict(
        line.strip().split(maxsplit=1) for line in plain.splitlines() if line.startswith("  ")
    )


def test_make_alone_lists_every_target_with_an_explanation(listed: dict[str, str]) -> None:
    """A new target argues for itself here."""
    assert set(listed) == TARGETS
    assert all(explanation[0].isupper() for explanation in listed.values())


def test_every_listed_target_is_phony(listed: dict[str, str]) -> None:
    """A file or folder called `docs` or `test` must not make a target look done."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)

    assert phony is not None
    assert set(listed) <= set(phony[1].split())
