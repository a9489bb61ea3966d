"""A ModelDeployment on a real API server: first version, canary, rollback, what is in the way."""

import json
import shutil
import subprocess
from typing import Any

import httpx

from cluster import Cluster
from model_deployments import (
    CANARY,
    GATEWAY,
    a_deployment,
    condition,
    has_reason,
    is_at_rest,
    publish,
)
from operator_process import an_operator
from serving_cluster import ServingCluster
from tunesmith_engine.rollout.judge import judge
from tunesmith_engine.rollout.recording import read_recording


def kstatus(cluster: Cluster) -> str:
    """What Flux and Argo's tools make of the deployment."""
    if shutil.which("kstatus") is None:
        return "no kstatus"
    live = cluster.kubectl("get", "modeldeployments", "--output=json")
    return subprocess.run(
        ["kstatus"], input=live, capture_output=True, text=True, check=False
    ).stdout


def test_a_good_version_is_promoted_and_a_bad_one_is_rolled_back(serving: ServingCluster) -> None:
    cluster = serving.cluster
    serving.faults["v3"] = ["--errors", "0.5"]
    publish(cluster, "v1")
    cluster.create(a_deployment(gateway=GATEWAY, rollout=CANARY)).raise_for_status()
    with an_operator(cluster.namespace) as (_, port):
        first = serving.wait_until(is_at_rest("v1"))
        current = kstatus(cluster)
        serving.requests_per_second = 60
        publish(cluster, "v2")
        split = serving.wait_until(lambda status: status.get("candidate", {}).get("weight") == 50)
        promoted = serving.wait_until(is_at_rest("v2"))
        dropped = list(serving.answers.failed)
        publish(cluster, "v3")
        back = serving.wait_until(
            lambda status: bool(status.get("rejected")) and is_at_rest("v2")(status)
        )
        serving.requests_per_second = 0
        shown = cluster.kubectl("get", "mdep")
        described = cluster.kubectl("describe", "mdep", "helpdesk")
        stalled = kstatus(cluster)
        url = f"http://127.0.0.1:{port}/recordings/{cluster.namespace}/helpdesk"
        recording = read_recording(httpx.get(url).raise_for_status().text.splitlines())

    assert "Failed" not in current
    assert "InProgress" not in current
    assert (first["stable"]["weight"], split["stable"]["weight"]) == (100, 50)
    assert promoted["lastVerdict"]["decision"] == "promote"
    assert dropped == []
    assert [(each["version"], each["reason"]) for each in back["rejected"]] == [
        ("v3", "AnalysisFailed")
    ]
    assert condition(back, "RolledBack")["status"] == "True"
    replayed = judge(recording.samples, recording.header.limits, now_seconds=recording.end_seconds)
    assert replayed.decision == "rollback"
    assert serving.versions() == ["v2"]
    assert shown.splitlines()[1].split()[:3] == ["helpdesk", "Serving", "v2"]
    assert "AnalysisFailed" in described
    assert "Failed" in stalled or stalled == "no kstatus"


def test_without_a_gateway_a_canary_is_refused_and_blue_green_takes_over(
    cluster: Cluster,
) -> None:
    publish(cluster, "v1")
    canary = a_deployment(rollout={"strategy": "canary", "drainSeconds": 5})
    cluster.create(canary).raise_for_status()
    with (
        ServingCluster(cluster, has_gateway=False).running() as serving,
        an_operator(cluster.namespace),
    ):
        first = serving.wait_until(is_at_rest("v1"))
        publish(cluster, "v2")
        refused = serving.wait_until(has_reason("StrategyNotSupported"))
        change = {"spec": {"rollout": {"strategy": "blueGreen"}}}
        cluster.merge("ModelDeployment", "helpdesk", change).raise_for_status()
        second = serving.wait_until(is_at_rest("v2"))
        front = service(cluster)

    assert first["endpoint"] == f"http://helpdesk.{cluster.namespace}.svc:8000/v1"
    assert "spec.gateway" in condition(refused, "Ready")["message"]
    assert refused["stable"]["version"] == "v1"
    assert front["spec"]["selector"]["tunesmith.dev/revision"] == second["stable"]["revision"]


def service(cluster: Cluster) -> dict[str, Any]:
    """The Service of the deployment's own name."""
    url = f"/api/v1/namespaces/{cluster.namespace}/services/helpdesk"
    found: dict[str, Any] = cluster.http.get(url).raise_for_status().json()
    return found


def test_a_route_of_somebody_else_is_told_of_and_left_alone(serving: ServingCluster) -> None:
    cluster = serving.cluster
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "helpdesk"},
        "spec": {
            "parentRefs": [{"name": "public"}],
            "rules": [{"backendRefs": [{"name": "other", "port": 80}]}],
        },
    }
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(route))
    publish(cluster, "v1")
    cluster.create(a_deployment(gateway=GATEWAY)).raise_for_status()
    with an_operator(cluster.namespace):
        blocked = serving.wait_until(has_reason("OwnedByAnother"))
        (kept,) = serving.objects("gateway.networking.k8s.io/v1/httproutes")
        cluster.kubectl("delete", "httproute", "helpdesk")
        served = serving.wait_until(is_at_rest("v1"))

    assert "HTTPRoute helpdesk" in condition(blocked, "Ready")["message"]
    assert kept["spec"]["rules"][0]["backendRefs"][0]["name"] == "other"
    assert served["stable"]["weight"] == 100


def test_a_deleted_deployment_takes_everything_with_it_but_its_versions(
    serving: ServingCluster,
) -> None:
    cluster = serving.cluster
    publish(cluster, "v1")
    cluster.create(a_deployment(gateway=GATEWAY)).raise_for_status()
    with an_operator(cluster.namespace):
        serving.wait_until(is_at_rest("v1"))
        cluster.kubectl("delete", "mdep", "helpdesk", "--timeout=60s")
        cluster.kubectl("wait", "--for=delete", "pod", "--all", "--timeout=60s")
        kinds = "deployments,services,httproutes,poddisruptionbudgets"
        left = cluster.kubectl("get", kinds, "--output=name")

    assert left == ""
    assert "helpdesk-v1" in cluster.kubectl("get", "mver")
