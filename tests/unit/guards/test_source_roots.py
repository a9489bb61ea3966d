"""`operator/`, `trainer/` and `serving/` are source roots, never packages.

As a package the first would hide Python's own `operator` from everything started in the repository.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE_ROOTS = ("operator", "trainer", "serving")


@pytest.mark.parametrize("source_root", SOURCE_ROOTS)
def test_nothing_importable_lies_directly_in_a_source_root(source_root: str) -> None:
    """Packages only: no `__init__.py`, no loose module."""
    loose = [path.name for path in (ROOT / source_root).iterdir() if path.suffix in {".py", ".so"}]

    assert loose == []


@pytest.mark.parametrize("source_root", SOURCE_ROOTS)
def test_every_package_in_a_source_root_is_ours_typed_and_explained(source_root: str) -> None:
    """Each has the project's prefix, a module docstring and the marker of a typed package."""
    packages = [
        path
        for path in (ROOT / source_root).iterdir()
        if path.is_dir() and path.name != "__pycache__"
    ]

    assert packages
    for package in packages:
        assert package.name.startswith("tunesmith_")
        assert (package / "py.typed").exists()
        assert (package / "__init__.py").read_text(encoding="utf-8").startswith('"""')


def test_python_started_in_the_repository_finds_its_own_operator_module() -> None:
    """`-S` keeps site packages from loading `operator` before the working folder is searched."""
    program = "import collections, operator; print(operator.__file__)"

    result = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert not result.stdout.startswith(str(ROOT))
