"""A ModelDeployment on a real API server: first version, canary, rollback, what is in the way."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster, kubectl
from manifests import a_version
from operator_process import an_operator
from serving_cluster import ServingCluster

ANALYSIS = {
    "windowSeconds": 1,
    "warmupSeconds": 1,
    "minimumSamples": 30,
    "deadlineSeconds": 60,
    "metrics": {"errors": {"minimumEffect": 0.1}, "ttftP50": {"minimumEffect": 1.0}},
}
CANARY = {"steps": [{"weight": 50, "seconds": 2}], "analysis": ANALYSIS, "drainSeconds": 10}
GATEWAY = {"name": "public"}


def a_deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "helpdesk"},
        "spec": {"model": "helpdesk", "rollout": CANARY, **spec},
    }


def publish(cluster: Cluster, name: str) -> None:
    version = a_version(version=name, uri=f"s3://models/helpdesk/{name}")
    version["metadata"]["name"] = f"helpdesk-{name}"
    version["spec"]["digest"] = f"sha256:{name[-1] * 64}"
    cluster.create(version).raise_for_status()


def is_serving(version: str) -> Any:
    return lambda status: (
        status["phase"] == "Serving"
        and status["stable"]["version"] == version
        and "candidate" not in status
        and not status.get("draining")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])
    )


@pytest.fixture
def serving(cluster: Cluster) -> Iterator[ServingCluster]:
    """The cluster, with a Gateway where the Gateway API is defined."""
    if "gateway.networking.k8s.io/v1" not in kubectl("api-versions").splitlines():
        pytest.skip("define the Gateway API in the API server of the tests (--crds gateway)")
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "public"},
        "spec": {
            "gatewayClassName": "tests",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(gateway))
    with ServingCluster(cluster).running() as serving:
        yield serving


def test_a_good_version_is_promoted_and_a_bad_one_is_rolled_back(serving: ServingCluster) -> None:
    cluster = serving.cluster
    serving.faults["v3"] = ["--errors", "0.5"]
    publish(cluster, "v1")
    cluster.create(a_deployment(gateway=GATEWAY)).raise_for_status()
    with an_operator(cluster.namespace):
        first = serving.wait_until(is_serving("v1"))
        serving.requests_per_second = 60
        publish(cluster, "v2")
        split = serving.wait_until(lambda s: s.get("candidate", {}).get("weight") == 50)
        promoted = serving.wait_until(is_serving("v2"), timeout_s=120)
        good = list(serving.answers.failed)
        publish(cluster, "v3")
        back = serving.wait_until(
            lambda s: bool(s.get("rejected")) and is_rolled_back(s), timeout_s=120
        )
        serving.requests_per_second = 0
        told = cluster.kubectl("get", "mdep")
        described = cluster.kubectl("describe", "mdep", "helpdesk")
        live = serving.objects("apps/v1/deployments")
    assert first["stable"]["weight"] == 100
    assert split["stable"]["weight"] == 50
    assert promoted["lastVerdict"]["decision"] == "promote"
    assert good == []
    assert back["stable"]["version"] == "v2"
    assert [(r["version"], r["reason"]) for r in back["rejected"]] == [("v3", "AnalysisFailed")]
    assert len(live) == 1
    assert "helpdesk" in told
    assert "AnalysisFailed" in described


def is_rolled_back(status: dict[str, Any]) -> bool:
    stalled = [c for c in status["conditions"] if c["type"] == "Stalled"]
    return (
        status["phase"] == "Serving"
        and "candidate" not in status
        and not status.get("draining")
        and stalled[0]["status"] == "True"
    )
