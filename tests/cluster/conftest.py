"""The API server that these tests speak to; without one they skip, and say how to get one."""

import json
import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from audit_log import AuditLog
from chart import rendered
from cluster import Cluster, connected, is_local, kubectl, wait_until_established
from crowd import wait_until
from model_deployments import make_gateway
from operator_process import a_job
from serving_cluster import ServingCluster
from tunesmith_api.admin_policy import admin_policy
from tunesmith_api.base import GROUP, VERSION
from tunesmith_api.crds import crds_yaml
from tunesmith_api.kinds import KINDS
from tunesmith_operator.finetunejob.child_names import REPORT_POLICY

KILL = "TEST_CLUSTER_KILL"
KILL_ETCD = "TEST_CLUSTER_KILL_ETCD"
WANTED = "set KUBECONFIG to a local API server, and put kubectl on the PATH"


@pytest.fixture(scope="session")
def server() -> Iterator[httpx.Client]:
    """An API server that knows our kinds."""
    if "KUBECONFIG" not in os.environ or shutil.which("kubectl") is None:
        pytest.skip(f"no API server: {WANTED}")
    if not is_local():
        pytest.skip(f"KUBECONFIG names a server elsewhere, and tests install CRDs: {WANTED}")
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=crds_yaml())
    wait_until_established(*OUR_CRDS)
    put_policy()
    with connected() as http:
        yield http


@pytest.fixture
def kill_api_server(server: httpx.Client, dry: Cluster) -> Iterator[Callable[[], None]]:
    """Kills the API server; one that finds its port still taken is started once more.

    Afterwards it takes jobs again, which it does not at once where a policy has parameters.
    """
    if KILL not in os.environ:
        pytest.skip(f"set {KILL} to the command that kills the API server and starts it again")
    yield partial(run_and_wait, os.environ[KILL], server)
    wait_until(lambda: dry.create(a_job(), dry_run=True).is_success)


@pytest.fixture
def kill_etcd(server: httpx.Client) -> Callable[[], None] | None:
    """Kills etcd, which comes again after a while; None where no command is known for that."""
    return partial(run_and_wait, os.environ[KILL_ETCD], server) if KILL_ETCD in os.environ else None


def run_and_wait(command: str, server: httpx.Client) -> None:
    """Run it until the API server is ready after it."""
    for _ in range(3):
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        with suppress(AssertionError):
            wait_until(lambda: answers(server), timeout_s=30)
            return
    raise AssertionError("the API server does not come back")


def answers(server: httpx.Client) -> bool:
    """Whether the API server is ready, and has read the kinds again: until then they are a 429."""
    lists = (f"/apis/{GROUP}/{VERSION}/{kind.plural}" for kind in KINDS)
    return all(server.get(path).is_success for path in ("/readyz", *lists))


OUR_CRDS = tuple(f"{kind.plural}.{GROUP}" for kind in KINDS)
POLICY = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def put_policy() -> None:
    """The policy of the chart, as an installation leaves it."""
    for each in rendered():
        if each["kind"] in POLICY:
            text = json.dumps(each)
            kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=text)


@pytest.fixture
def no_policy(server: httpx.Client) -> Iterator[None]:
    """A cluster that has never heard of the policy."""
    kubectl("delete", *(f"{kind}/{REPORT_POLICY}" for kind in POLICY))
    yield
    put_policy()


@pytest.fixture
def parameterized_policy(server: httpx.Client) -> None:
    """A cluster that knows FineTunePolicy; it keeps it, as an installation does."""
    for part in admin_policy():
        kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(part))


@pytest.fixture
def audit_log() -> AuditLog:
    """Where the API server of the tests writes down who asked for what."""
    path = Path(os.environ["KUBECONFIG"]).parent / "logs" / "audit.jsonl"
    if not path.exists():
        pytest.skip(f"no audit log at {path}: start the control plane with --audit")
    return AuditLog(path)


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


@pytest.fixture
def serving(cluster: Cluster) -> Iterator[ServingCluster]:
    """The namespace with nodes that serve, and a Gateway."""
    if not make_gateway(cluster):
        pytest.skip("define the Gateway API in the API server of the tests (--crds gateway)")
    with ServingCluster(cluster).running() as serving:
        yield serving
