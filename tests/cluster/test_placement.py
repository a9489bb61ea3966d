"""What the operator makes passes the real API server, and what others write into it stays."""

import json

from attempts import attempt_for
from cluster import Cluster
from tunesmith_operator.manifests import Owner

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
    owner = Owner(name="helpdesk", namespace=dry.namespace, uid="0")
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
