"""The API server that these tests speak to; without one they skip, and say how to get one."""

import os
import shutil
import uuid
from collections.abc import Iterator

import httpx
import pytest

from cluster import Cluster, connected, is_local, kubectl
from tunesmith_api.crds import crds_yaml

WANTED = "set KUBECONFIG to a local API server, and put kubectl on the PATH"


@pytest.fixture(scope="session")
def server() -> Iterator[httpx.Client]:
    """An API server that knows our kinds."""
    if "KUBECONFIG" not in os.environ or shutil.which("kubectl") is None:
        pytest.skip(f"no API server: {WANTED}")
    if not is_local():
        pytest.skip(f"KUBECONFIG names a server elsewhere, and tests install CRDs: {WANTED}")
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=crds_yaml())
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", *OUR_CRDS)
    with connected() as http:
        yield http


OUR_CRDS = ("finetunejobs.tunesmith.dev", "modelversions.tunesmith.dev")


@pytest.fixture
def cluster(server: httpx.Client) -> Iterator[Cluster]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield Cluster(server, name)
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def dry(server: httpx.Client) -> Cluster:
    """Where nothing is kept: for requests that are only tried."""
    return Cluster(server)
