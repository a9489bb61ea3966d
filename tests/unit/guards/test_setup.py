"""What `make setup` does where torch's build for CPUs cannot be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# uv where only a mirror of PyPI can be reached, and where nothing can.
ONLY_PYPI = """\
#!/bin/sh
[ "$1" = --version ] && echo "uv 0.13.9" && exit
[ "$1" = venv ] && mkdir -p .venvs/trainer/bin && touch .venvs/trainer/bin/python && exit
if ! grep -q '^torch==.*+cpu' "$5" && [ -z "$UV_FIND_LINKS$UV_TORCH_BACKEND" ]; then
  cp "$5" synced.txt && exit
fi
echo "Because there is no version of torch==2.13.0+cpu, your requirements are unsatisfiable." >&2
exit 1
"""
NOTHING = ONLY_PYPI.replace('cp "$5" synced.txt && exit', "false")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    return tmp_path


def _set_up(checkout: Path, *, uv: str) -> "subprocess.CompletedProcess[str]":
    program = checkout / ".venv" / "bin" / "uv"
    program.write_text(uv)
    program.chmod(0o755)
    return subprocess.run(
        [checkout / "scripts" / "setup_environments.sh", "trainer"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_only_pypi_can_be_reached_its_torch_is_taken(checkout: Path) -> None:
    ran = _set_up(checkout, uv=ONLY_PYPI)

    assert ran.returncode == 0, ran.stderr
    assert "taking PyPI's" in ran.stderr
    pins = (checkout / "synced.txt").read_text().split()
    assert "torch==2.13.0" in pins
    assert any(pin.startswith("nvidia-cublas==") for pin in pins)
    assert not any(pin.startswith("triton==") for pin in pins)
    names = [pin.partition("==")[0] for pin in pins]
    assert sorted(set(names)) == sorted(names)
    # All else is what the lock for CPUs has.
    locked = (checkout / "requirements" / "trainer.txt").read_text().splitlines()
    others = {
        line.removesuffix(" \\")
        for line in locked
        if "==" in line and not line.startswith((" ", "#", "torch=="))
    }
    assert others <= set(pins)
    # So that the next `make` has nothing to do.
    assert (checkout / ".venvs" / "trainer" / ".lock-digest").exists()


def test_where_nothing_can_be_reached_it_names_what_to_set(checkout: Path) -> None:
    ran = _set_up(checkout, uv=NOTHING)

    assert ran.returncode == 1
    assert "unsatisfiable" in ran.stderr
    assert "UV_DEFAULT_INDEX" in ran.stderr
    assert "UV_FIND_LINKS" in ran.stderr
    assert not (checkout / ".venvs" / "trainer" / ".lock-digest").exists()
