"""What the API server refuses is told, and what others have is left alone, on a real one."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster, kubectl
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, request_of, succeeded
from tunesmith_operator.kube.objects import condition_of

RAY_JOBS = "rayjobs.ray.io"


def failed(cluster: Cluster, name: str = "helpdesk") -> dict[str, Any]:
    """The condition of a job that the server lets fail."""
    cluster.kubectl("wait", "--for=condition=Failed", f"ftj/{name}", "--timeout=90s")
    return condition_of(cluster.get("FineTuneJob", name), "Failed") or {}


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"nodeSelector": {"a..b/x": "y"}}, "nodeSelector"),
        ({"priorityClassName": "a..b"}, "priorityClassName"),
    ],
)
def test_a_field_that_the_server_finds_invalid_fails_the_job_with_its_words(
    cluster: Cluster, resources: dict[str, Any], field: str
) -> None:
    cluster.create(a_job(resources=resources)).raise_for_status()
    with an_operator(cluster.namespace):
        condition = failed(cluster)

    assert condition["reason"] == "InvalidSpec"
    assert field in condition["message"]


@pytest.mark.alone  # others have accounts that go with the policy
def test_the_account_of_an_operator_is_not_taken_over_by_a_job_of_its_name(
    cluster: Cluster, no_policy: None
) -> None:
    """Release `prod` and job `prod`; without the admission policy each job has an account."""
    name = "prod-tunesmith"
    cluster.kubectl("create", "serviceaccount", name)
    cluster.kubectl("create", "role", name, "--verb=*", "--resource=*.*")
    before = {
        kind: json.loads(cluster.kubectl("get", f"{kind}/{name}", "--output=json"))
        for kind in ("serviceaccount", "role")
    }
    cluster.create(a_job("prod")).raise_for_status()

    with an_operator(cluster.namespace):
        cluster.kubectl(
            "wait", "ftj/prod", "--timeout=60s",
            '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Forbidden',
        )  # fmt: skip
        ready = condition_of(cluster.get("FineTuneJob", "prod"), "Ready") or {}
        cluster.kubectl("delete", "ftj/prod", "--timeout=60s")

    assert f"ServiceAccount {name} is there already" in ready["message"]
    for kind, known in before.items():
        now = json.loads(cluster.kubectl("get", f"{kind}/{name}", "--output=json"))
        assert now["metadata"]["resourceVersion"] == known["metadata"]["resourceVersion"]


@pytest.fixture
def old_kuberay(cluster: Cluster) -> Iterator[Cluster]:
    """Definitions of KubeRay as they were before 1.5.1: without authOptions."""
    if "ray.io/v1" not in kubectl("api-versions").splitlines():
        pytest.skip("no definitions of KubeRay: start the control plane with --crds ray")
    found = json.loads(kubectl("get", "crd", RAY_JOBS, "--output=json"))
    versions = found["spec"]["versions"]
    at = next(place for place, each in enumerate(versions) if each["name"] == "v1")
    path = (
        f"/spec/versions/{at}/schema/openAPIV3Schema/properties/spec/properties/rayClusterSpec"
        "/properties/authOptions"
    )
    schema = versions[at]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    field = schema["rayClusterSpec"]["properties"]["authOptions"]
    patch(path, "remove")
    yield cluster
    patch(path, "add", field)


def patch(path: str, verb: str, value: Any = None) -> None:
    change = {"op": verb, "path": path} | ({} if value is None else {"value": value})
    kubectl("patch", "crd", RAY_JOBS, "--type=json", f"--patch={json.dumps([change])}")


@pytest.mark.alone  # other tests make RayJobs of the whole definition
def test_a_kuberay_that_would_leave_ray_open_is_refused_with_the_reason(
    old_kuberay: Cluster,
) -> None:
    cluster = old_kuberay
    with an_operator(cluster.namespace):
        cluster.create(a_job(resources={"workers": 2})).raise_for_status()
        pod = wait_for_pod(cluster)
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        condition = failed(cluster)

    assert condition["reason"] == "InvalidSpec"
    assert "authOptions" in condition["message"]
    assert "upgrade KubeRay to 1.5.1" in condition["message"]
    assert cluster.kubectl("get", "rayjobs", "--output=name") == ""
