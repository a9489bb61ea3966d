"""What `make setup` says where torch's build for CPUs cannot be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# As uv ends where only a mirror of PyPI can be reached.
UV = """\
#!/bin/sh
[ "$1" = --version ] && echo "uv 0.13.9" && exit
[ "$1" = venv ] && mkdir -p .venvs/trainer/bin && touch .venvs/trainer/bin/python && exit
echo "Because there is no version of torch==2.13.0+cpu, your requirements are unsatisfiable." >&2
exit 1
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "uv").write_text(UV)
    (programs / "uv").chmod(0o755)
    return tmp_path


def test_without_pytorchs_index_setup_names_what_to_set(checkout: Path) -> None:
    ran = subprocess.run(
        [checkout / "scripts" / "setup_environments.sh", "trainer"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "unsatisfiable" in ran.stderr
    assert "UV_FIND_LINKS" in ran.stderr
    assert "make setup-trainer ACCELERATOR=gpu" in ran.stderr
    assert not (checkout / ".venvs" / "trainer" / ".lock-digest").exists()
