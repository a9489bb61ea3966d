"""KubeRay may be installed while the operator runs: the next training is handed to it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster, kubectl
from command import wait_until
from kuberay import KubeRay
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, request_of, succeeded
from tunesmith_operator.kube.objects import condition_of

DEFINITION = "rayjobs.ray.io"
WORKERS: dict[str, Any] = {"resources": {"workers": 2}}

pytestmark = pytest.mark.alone  # other tests' RayJobs go with the definition


@pytest.fixture
def definition(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """The definition of RayJobs, taken away for the time of a test."""
    if "ray.io/v1" not in kubectl("api-versions").splitlines():
        pytest.skip("no definitions of KubeRay: start the control plane with --crds ray")
    found = json.loads(kubectl("get", "crd", DEFINITION, "--output=json"))
    kubectl("delete", "crd", DEFINITION, "--timeout=60s")
    kept = {key: found["metadata"][key] for key in ("name", "annotations", "labels")
            if key in found["metadata"]}  # fmt: skip
    bare = {key: found[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": kept}
    yield bare
    install(cluster, bare)
    KubeRay(cluster).leave()


def install(cluster: Cluster, definition: dict[str, Any]) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-",
            stdin=json.dumps(definition))  # fmt: skip
    wait_until(lambda: is_served(cluster), what="RayJobs to be served")


def is_served(cluster: Cluster) -> bool:
    """Whether the server both tells of RayJobs and answers for them."""
    group, kind = (cluster.http.get(f"/apis/ray.io/v1{part}") for part in ("", "/rayjobs"))
    return kind.is_success and '"rayjobs"' in group.text


def prepared(cluster: Cluster, name: str) -> None:
    """A job that has been prepared, so that its training is next."""
    cluster.create(a_job(name, **WORKERS)).raise_for_status()
    pod = wait_for_pod(cluster)
    end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})


def test_it_is_noticed_by_the_next_training_and_by_the_watches(
    cluster: Cluster, definition: dict[str, Any]
) -> None:
    with an_operator(cluster.namespace):
        prepared(cluster, "before")
        pod = wait_for_training(cluster, "before")
        cluster.merge("FineTuneJob", "before", {"spec": {"suspend": True}}).raise_for_status()
        name = pod["metadata"]["name"]
        cluster.kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=60s")
        install(cluster, definition)
        prepared(cluster, "after")
        rayjob = KubeRay(cluster).rayjob()
        # Without a pod, nothing but the RayJob itself tells of it.
        KubeRay(cluster).play(rayjob, "refused")
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/after", "--timeout=60s")

    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].startswith("before--train-1")
    assert rayjob["metadata"]["labels"]["tunesmith.dev/job"] == "after"
    failed = condition_of(cluster.get("FineTuneJob", "after"), "Failed") or {}
    assert failed["reason"] == "InvalidSpec"


def wait_for_training(cluster: Cluster, job: str, *, timeout_s: float = 40) -> dict[str, Any]:
    """The pod of the job's training."""
    give_up = time.monotonic() + timeout_s
    labels = f"tunesmith.dev/job={job},tunesmith.dev/stage=train"
    while time.monotonic() < give_up:
        text = cluster.kubectl("get", "pods", "--selector", labels, "--output=json")
        found: list[dict[str, Any]] = json.loads(text)["items"]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no pod came")
