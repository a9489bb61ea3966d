"""A deleted job takes neither its version away nor the volume that the version lies on."""

from typing import Any

import pytest

from cluster import Cluster
from operator_process import a_job, an_operator
from stage_pods import publish_to_volume

CLAIM = "helpdesk-tunesmith"


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
        publish_to_volume(cluster, "helpdesk")
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
