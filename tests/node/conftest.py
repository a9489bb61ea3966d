"""A node that runs real pods, with the four images on it and the chart installed.

The node belongs to whoever starts it; `TEST_NODE_LOAD` is the command that imports an archive.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import helm
from cluster import Cluster, connected, is_local, kubectl
from restricted_pods import make_restricted_namespace

ROOT = Path(__file__).parents[2]
RELEASE = "tunesmith"


@pytest.fixture(scope="session")
def node() -> None:
    """A local cluster with a node, and what builds images for it."""
    lacks = [each for each in ("buildah", "kubectl", "helm") if shutil.which(each) is None]
    lacks += [each for each in ("KUBECONFIG", "TEST_NODE_LOAD") if each not in os.environ]
    if os.geteuid() != 0:
        lacks.append("root, which buildah's chroot isolation needs")
    if not lacks and not (is_local() and "True" in _readiness()):
        lacks.append("a local cluster with a ready node")
    if lacks:
        pytest.skip(f"no job runs in real pods: missing {', '.join(lacks)} (docs/task/install.md)")


@pytest.fixture(scope="session")
def load_images(node: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Builds images from this tree, by name, and imports them into the node."""
    folder = tmp_path_factory.mktemp("images")
    loaded: set[str] = set()

    def load(*names: str) -> None:
        wanted = [name for name in names if name not in loaded]
        if wanted:
            subprocess.run([ROOT / "scripts/build_images.sh", folder, *wanted], check=True)
        for archive in sorted(folder.glob("*.tar")):
            subprocess.run([*shlex.split(os.environ["TEST_NODE_LOAD"]), archive], check=True)
            archive.unlink()
        loaded.update(wanted)

    return load


@pytest.fixture(scope="session")
def images(load_images: Callable[..., None]) -> None:
    """The four images."""
    load_images("operator", "trainer", "compressor", "server")


@pytest.fixture(scope="session")
def release(images: None) -> Iterator[str]:
    """The chart with its defaults, in a namespace that admits only restricted pods."""
    make_restricted_namespace(RELEASE)
    helm.install(RELEASE, "--namespace", RELEASE, "--wait", "--timeout=180s")
    yield RELEASE
    helm.uninstall(RELEASE, "--namespace", RELEASE, "--ignore-not-found")
    kubectl("delete", "namespace", RELEASE, "--timeout=120s")


@pytest.fixture(scope="session")
def team(release: str) -> Iterator[Cluster]:
    """A namespace of people who run jobs; it admits only restricted pods too."""
    make_restricted_namespace("team")
    with connected() as http:
        yield Cluster(_patient(http), "team")
    kubectl("delete", "namespace", "team", "--timeout=120s")


def _patient(http: httpx.Client) -> httpx.Client:
    http.timeout = httpx.Timeout(120)
    return http


def _readiness() -> str:
    path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    return kubectl("get", "nodes", f"--output={path}")
