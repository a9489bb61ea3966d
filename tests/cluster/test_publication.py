"""A deleted job takes neither its version away nor the volume that the version lies on."""

import time
from typing import Any

import pytest

from cluster import Cluster
from manifests import a_version
from operator_process import a_job, an_operator
from stage_pods import end_pod, pending_pods, request_of, succeeded
from tunesmith_engine.stages.catalog import PUBLISH

CLAIM = "helpdesk-tunesmith"


def publish_to_the_volume(cluster: Cluster, *, timeout_s: float = 60) -> None:
    """Let every stage succeed; the version goes to the volume of the job."""
    version = a_version(uri="file:///workspace/models/helpdesk/1a2b3c")
    give_up = time.monotonic() + timeout_s
    while cluster.get("FineTuneJob", "helpdesk").get("status", {}).get("phase") != "Succeeded":
        assert time.monotonic() < give_up
        for pod in pending_pods(cluster):
            request = request_of(cluster, pod)
            result = succeeded(request)
            if request.stage == PUBLISH.name:
                result = result.model_copy(update={"facts": {"modelVersion": version}})
            end_pod(cluster, pod, result, ended={"exitCode": 0})
        time.sleep(0.1)


def owners_of_claim(cluster: Cluster) -> list[str]:
    path = f"/api/v1/namespaces/{cluster.namespace}/persistentvolumeclaims/{CLAIM}"
    claim: dict[str, Any] = cluster.http.get(path).raise_for_status().json()
    return [owner["kind"] for owner in claim["metadata"]["ownerReferences"]]


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_a_version_keeps_its_volume_until_it_is_deleted_itself(
    cluster: Cluster, cascade: str
) -> None:
    deploy = {"replicas": 2}
    cluster.create(a_job(deploy=deploy)).raise_for_status()
    with an_operator(cluster.namespace):
        publish_to_the_volume(cluster)
        version = cluster.get("ModelVersion", "helpdesk-1a2b3c")
        cluster.kubectl("delete", "ftj", "helpdesk", f"--cascade={cascade}", "--timeout=60s")
        # Whatever else the job had is gone: the garbage collector has been there.
        cluster.kubectl("wait", "--for=delete", "configmap/helpdesk-tunesmith", "--timeout=60s")
        kept = owners_of_claim(cluster)
        deployment = cluster.get("ModelDeployment", "helpdesk")
        cluster.kubectl("delete", "mdep", "helpdesk", "--timeout=60s")
    cluster.kubectl("delete", "mver", "helpdesk-1a2b3c")
    cluster.kubectl("wait", "--for=delete", f"pvc/{CLAIM}", "--timeout=60s")

    assert version["spec"]["claimName"] == CLAIM
    assert version["metadata"]["labels"]["tunesmith.dev/model"] == "helpdesk"
    assert "ModelVersion" in kept
    assert deployment["spec"]["replicas"] == 2
