"""The base that images are built on: found in a registry, taken to its digest once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_tools import ROOT, Machine, machine_with_registry

# Pulls and looks at images as it does, and only writes down what it would build.
_BUILDAH = """\
#!/bin/sh
case $1 in
  pull | inspect) exec {real} "$@" ;;
  push) for last; do :; done; last=${{last#oci-archive:}}; : >"${{last%%:*}}" ;;
  *) echo "$@" >>{log} ;;
esac
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine_with_registry(tmp_path_factory.mktemp("machine")) as here:
        yield here


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the buildah in front of the real one was asked to build."""
    real = shutil.which("buildah")
    if real is None or os.geteuid() != 0:
        pytest.skip("no images are pulled: missing buildah, or root, which its storage needs")
    log = tmp_path / "built"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "buildah").write_text(_BUILDAH.format(real=real, log=log))
    (tmp_path / "bin" / "buildah").chmod(0o755)
    storage = (
        f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n'
    )
    (tmp_path / "storage.conf").write_text(storage)
    return log


@pytest.mark.parametrize("form", [":3.11", "@{digest}"])
def test_a_base_in_a_registry_is_pulled_and_built_on_by_its_digest(
    form: str, machine: Machine, log: Path, tmp_path: Path
) -> None:
    machine.push_unsigned(machine.archive(tmp_path, "python"), "lib/python:3.11")
    digest = machine.digest("lib/python:3.11")

    done = machine.run(
        ROOT / "scripts" / "build_images.sh",
        tmp_path / "images",
        "operator",
        BASE=f"{machine.host}/lib/python{form.format(digest=digest)}",
        PATH=f"{log.parent / 'bin'}:{os.environ['PATH']}",
        CONTAINERS_STORAGE_CONF=str(tmp_path / "storage.conf"),
        STORAGE_DRIVER="vfs",
    )

    assert done.returncode == 0, done.stderr
    assert f"--build-arg BASE={machine.host}/lib/python@{digest} " in log.read_text()
    assert digest in (tmp_path / "images" / "operator.cdx.json").read_text()
