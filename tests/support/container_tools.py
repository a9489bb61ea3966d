"""A machine with containers' own tools, logged in to a real registry, to push and pull images."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from registry_server import docker_config, registry_server

ROOT = Path(__file__).parents[2]
WORD = "tested"
_PUSH = ROOT / "scripts" / "push_images.sh"


@dataclass(frozen=True)
class Machine:
    """The settings of containers' tools in a home, and the registry that it is logged in to."""

    home: Path
    host: str

    @property
    def settings(self) -> Path:
        return self.home / ".config" / "containers"

    def key(self, name: str) -> Path:
        return self.home / f"{name}.private"

    def run(self, *command: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        given = {"HOME": str(self.home), "REGISTRY_AUTH_FILE": str(self.home / "auth.json")}
        return subprocess.run(
            list(map(str, command)),
            env={**os.environ, **given, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def skopeo(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return self.run("skopeo", *arguments)

    def push(
        self, folder: Path, *images: str, to: str = "ml", key: str = "release", password: str = WORD
    ) -> "subprocess.CompletedProcess[str]":
        given: list[str | Path] = [
            _PUSH,
            folder,
            f"{self.host}/{to}",
            "--key",
            self.key(key),
            *images,
        ]
        return self.run(*given, COSIGN_PASSWORD=password)

    def pull(self, name: str) -> "subprocess.CompletedProcess[str]":
        """As a node does, under its policy."""
        target = self.home / "pulled"
        shutil.rmtree(target, ignore_errors=True)
        return self.skopeo("copy", f"docker://{self.host}/{name}", f"dir:{target}")

    def archive(self, folder: Path, name: str, *, tag: str = "0.1.0", text: str = "") -> Path:
        """As scripts/build_images.sh packs it: an image with one file, which says name and text."""
        layer = folder / "layer.tar"
        content = f"{name} {tag} {text}".encode()
        member = tarfile.TarInfo("what")
        member.size = len(content)
        with tarfile.open(layer, "w") as file:
            file.addfile(member, BytesIO(content))
        archive = folder / f"{name}.tar"
        archive.unlink(missing_ok=True)
        built = f"oci-archive:{archive}:localhost/tunesmith/{name}:{tag}"
        done = self.skopeo("copy", f"tarball:{layer}", built)
        assert done.returncode == 0, done.stderr
        layer.unlink()
        return archive

    def push_unsigned(self, archive: Path, name: str) -> None:
        """With containers' own tool alone."""
        done = self.skopeo("copy", f"oci-archive:{archive}", f"docker://{self.host}/{name}")
        assert done.returncode == 0, done.stderr

    def digest(self, name: str) -> str:
        name = f"docker://{self.host}/{name}"
        return self.skopeo("inspect", "--format={{.Digest}}", name).stdout.strip()

    def named(self, text: str) -> str:
        """With the host here in place of the page's names."""
        mirror = text.replace("mirror.example.com", f"{self.host}/mirror")
        return mirror.replace("registry.example.com", self.host)

    def demand(self, policy: str) -> None:
        (self.settings / "policy.json").write_text(policy)


@contextmanager
def machine_with_registry(folder: Path) -> Iterator[Machine]:
    """Logged in to a registry without TLS, as one on loopback is; everything is let in."""
    if shutil.which("skopeo") is None:
        pytest.skip("no skopeo is on the PATH; Debian has it in the package skopeo")
    (folder / "registry").mkdir()
    with registry_server(folder / "registry") as host:
        here = Machine(folder / "home", host)
        (here.settings / "registries.d").mkdir(parents=True)
        insecure = f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
        (here.settings / "registries.conf").write_text(insecure)
        (here.home / "auth.json").write_text(docker_config(host))
        here.demand('{"default": [{"type": "insecureAcceptAnything"}]}')
        yield here
