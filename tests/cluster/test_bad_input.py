"""Bad input that the API server lets through: each ends in a condition that says what to do."""

import json
import time
from collections.abc import Iterator

import pytest

from cluster import Cluster, kubectl, wait_until_established
from operator_process import a_job, an_operator, wait_for_pod
from tunesmith_api.crds import crds_yaml
from tunesmith_operator.kube.objects import condition_of

pytestmark = pytest.mark.alone  # other tests' jobs go with the definitions


@pytest.fixture
def newer_definitions(cluster: Cluster) -> Iterator[Cluster]:
    """Definitions of a later release, with a field that this operator does not know."""
    spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    change = [{"op": "add", "path": f"{spec}/magic", "value": {"type": "boolean"}}]
    name = "finetunejobs.tunesmith.dev"
    kubectl("patch", "crd", name, "--type=json", f"--patch={json.dumps(change)}")
    yield cluster
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=crds_yaml())


def test_a_field_of_a_later_release_fails_the_job_and_is_named(newer_definitions: Cluster) -> None:
    cluster = newer_definitions

    with an_operator(cluster.namespace):
        while cluster.create(a_job(magic=True)).is_error:  # until the server knows the field
            time.sleep(0.1)
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=60s")
    job = cluster.get("FineTuneJob", "helpdesk")
    stalled = condition_of(job, "Stalled") or {}

    assert stalled["reason"] == "InvalidSpec"
    assert stalled["message"].startswith("spec.magic: unknown field")
    assert job["status"]["observedGeneration"] == 1
    assert cluster.kubectl("get", "jobs", "--output=name") == ""


def test_an_operator_outlives_the_definitions_and_goes_on_when_they_are_back(
    cluster: Cluster,
) -> None:
    name = "finetunejobs.tunesmith.dev"

    with an_operator(cluster.namespace) as (process, _):
        cluster.create(a_job("first")).raise_for_status()
        wait_for_pod(cluster)
        kubectl("delete", "crd", name, "--timeout=60s")
        kubectl("apply", "--server-side", "--filename=-", stdin=crds_yaml())
        wait_until_established(name)
        while cluster.create(a_job("second")).is_error:  # until the server has storage for it
            time.sleep(0.1)
        cluster.kubectl(
            "wait", "ftj/second", "--for=jsonpath={.status.phase}=Preparing", "--timeout=90s"
        )
        is_alive = process.poll() is None

    assert is_alive
