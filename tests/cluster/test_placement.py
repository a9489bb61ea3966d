"""What the operator makes passes the real API server, and what others write into it stays."""

import json

from attempts import attempt_for
from cluster import Cluster, kubectl
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import request_of
from tunesmith_operator.finetunejob.job_ref import JobRef

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
EVERYTHING = {
    "workers": 2,
    "gpusPerWorker": 1,
    "cpu": "2",
    "memory": "1Gi",
    "nodeSelector": {"pool": "training"},
    "tolerations": [
        {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}
    ],
    "spot": True,
    "priorityClassName": "batch",
    "imagePullSecrets": [{"name": "registry"}],
}


def test_an_attempt_with_every_field_of_placement_has_no_field_that_the_server_does_not_know(
    dry: Cluster,
) -> None:
    owner = JobRef(name="helpdesk", namespace=dry.namespace, uid="0")
    attempt = attempt_for(
        "train",
        owner=owner,
        resources=EVERYTHING,
        queueName="team",
        workspace={"claimName": "shared"},
    )
    made = dry.http.post(
        f"/apis/batch/v1/namespaces/{dry.namespace}/jobs",
        params={"fieldValidation": "Strict", "dryRun": "All"},
        content=json.dumps(attempt),
        headers={"Content-Type": "application/json"},
    )

    assert made.is_success, made.text


def test_an_attempt_before_an_object_store_is_admitted_where_pods_are_restricted(
    cluster: Cluster,
) -> None:
    """It needs no claim; its Job is taken, and its pod is admitted by Pod Security."""
    kubectl("label", "namespace", cluster.namespace, RESTRICTED)
    job = a_job(
        workspace={"uri": "s3://jobs/a", "secretRef": {"name": "bucket"}, "size": "9Gi"},
        output={"model": "helpdesk", "uri": "s3://models"},
    )
    cluster.create(job).raise_for_status()

    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)

    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    mounts = {
        each["name"]: each["mountPath"] for each in pod["spec"]["containers"][0]["volumeMounts"]
    }
    uid = cluster.get("FineTuneJob", "helpdesk")["metadata"]["uid"]
    assert volumes["workspace"]["emptyDir"] == {"sizeLimit": "9Gi"}
    assert mounts["secret-0"] == "/run/tunesmith/secrets/bucket"
    assert request_of(cluster, pod).store == f"s3://jobs/a/{cluster.namespace}-helpdesk-{uid}"
    assert cluster.kubectl("get", "pvc", "--output=name") == ""
