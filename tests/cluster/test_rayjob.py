"""Training in several pods: a RayJob, with KubeRay's part played on the real API server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from attempts import rayjob_for
from clock import now_text
from cluster import Cluster, kubectl
from kuberay import KubeRay, needs_kuberay
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, request_of, run_pods, succeeded
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.kube.objects import condition_of

WORKERS: dict[str, Any] = {"resources": {"workers": 2}}
LATER = ["evaluate-1", "compress-1", "verify-1", "publish-1"]


@contextmanager
def a_training(cluster: Cluster, **spec: Any) -> Iterator[tuple[KubeRay, dict[str, Any]]]:
    """A job with two workers whose training has just been handed to KubeRay."""
    needs_kuberay()
    cluster.create(a_job(**WORKERS, **spec)).raise_for_status()
    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        kuberay = KubeRay(cluster)
        try:
            yield kuberay, kuberay.rayjob()
        finally:
            kuberay.leave()


def wait_for_reason(cluster: Cluster, reason: str) -> str:
    """What the job says of its training, once it does for this reason."""
    cluster.kubectl(
        "wait",
        "ftj/helpdesk",
        f"--for=jsonpath={{.status.conditions[?(@.type=='Trained')].reason}}={reason}",
        "--timeout=60s",
    )
    trained = condition_of(cluster.get("FineTuneJob", "helpdesk"), "Trained") or {}
    return str(trained["message"])


def attempts_of(cluster: Cluster) -> list[tuple[str, int, str]]:
    found = cluster.get("FineTuneJob", "helpdesk")["status"]["attempts"]
    return [(each["stage"], each["number"], each["reason"]) for each in found]


def test_two_workers_train_in_pods_of_their_own_and_the_job_completes(cluster: Cluster) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        pods = [kuberay.pod(kind)["metadata"]["labels"] for kind in ("head", "worker")]
        kuberay.finish(rayjob)
        ran = run_pods(cluster, "helpdesk")
    cluster.kubectl("wait", "--for=condition=Complete", "ftj/helpdesk", "--timeout=5s")

    assert ran == LATER
    assert {each["tunesmith.dev/job"] for each in pods} == {"helpdesk"}
    assert len(kuberay.rayjobs()) == 1


def test_a_stage_that_fails_in_its_head_fails_the_job_and_says_how(cluster: Cluster) -> None:
    with a_training(cluster, backoffLimit=0) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        kuberay.play(rayjob, "fails")
        kuberay.shut_down()
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=40s")
    status = cluster.get("FineTuneJob", "helpdesk")["status"]

    assert status["stages"][1]["reason"] == "StageCrashed"
    assert "exit code 3" in status["stages"][1]["message"]


def test_the_next_attempt_waits_until_the_pods_of_the_last_are_gone(cluster: Cluster) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        kuberay.play(rayjob, "fails")
        time.sleep(3)
        before = len(kuberay.rayjobs())
        kuberay.shut_down()
        second = kuberay.rayjob()

    assert before == 1
    assert second["metadata"]["name"] == rayjob["metadata"]["name"].replace("-1-", "-2-")


def test_a_lost_head_is_told_of_and_the_attempt_goes_on(cluster: Cluster) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        kuberay.play(rayjob, "head-lost")
        told = wait_for_reason(cluster, "Killed")
        kuberay.play(rayjob, "head-back")
        wait_for_reason(cluster, "Running")
        kuberay.finish(rayjob)
        cluster.kubectl("wait", "--for=condition=Trained", "ftj/helpdesk", "--timeout=30s")

    assert "the head of train ended with exit code 137" in told
    assert attempts_of(cluster)[1] == ("train", 1, "Succeeded")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True",
                             "reason": "DeletionByTaintManager"}]},
            "NodeLost",
        ),
        (
            {"containerStatuses": [{"name": "stage", "image": "x", "imageID": "x", "ready": False,
                                    "restartCount": 0, "state": {"terminated": {
                                        "exitCode": 137, "reason": "OOMKilled"}}}]},
            "HostOOMKilled",
        ),
    ],
)  # fmt: skip
def test_a_lost_worker_is_told_of_by_its_cause(
    cluster: Cluster, status: dict[str, Any], reason: str
) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        kuberay.say("worker", **_since_now(status))
        told = wait_for_reason(cluster, reason)
        kuberay.play(rayjob, "worker-lost")
        kuberay.play(rayjob, "worker-back")
        wait_for_reason(cluster, "Running")

    assert "a worker of train" in told
    assert attempts_of(cluster)[1] == ("train", 1, "Running")


def test_a_worker_that_is_gone_is_missed_until_kuberay_replaces_it(cluster: Cluster) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        kuberay.lose("worker")
        told = wait_for_reason(cluster, "PodNotCreated")
        kuberay.play(rayjob, "worker-back")
        wait_for_reason(cluster, "Running")

    assert told.startswith("train has 2 of its 3 pods left")
    assert attempts_of(cluster)[1] == ("train", 1, "Running")


def _since_now(status: dict[str, Any]) -> dict[str, Any]:
    """Disruptions that nobody followed up are taken back by the control plane after a while."""
    now = now_text()
    conditions = [{**each, "lastTransitionTime": now} for each in status.get("conditions", [])]
    return {**status, **({"conditions": conditions} if conditions else {})}


def test_an_image_that_cannot_be_pulled_is_named(cluster: Cluster) -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    container = {"name": "stage", "image": "stages:1", "imageID": "", "ready": False,
                 "restartCount": 0, "state": waiting}  # fmt: skip
    scheduled = {"type": "PodScheduled", "status": "True"}
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.node = "node-1"
        kuberay.play(rayjob, "no-image")
        kuberay.say("head", conditions=[scheduled], containerStatuses=[container])
        told = wait_for_reason(cluster, "ImagePullFailed")

    assert "the head of train: image stages:1" in told


def test_pods_that_fit_nowhere_are_told_of_with_what_keeps_them_together(cluster: Cluster) -> None:
    """The control plane has no nodes."""
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "no-image")
        told = wait_for_reason(cluster, "Unschedulable")

    assert told.startswith("the head of train fits on no node: ")
    assert "ask for less, or for ReadWriteMany" in told


def test_a_deadline_that_others_gave_the_rayjob_is_told_in_their_words(cluster: Cluster) -> None:
    with a_training(cluster, backoffLimit=0) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        kuberay.play(rayjob, "deadline")
        kuberay.shut_down()
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=40s")
    stage = cluster.get("FineTuneJob", "helpdesk")["status"]["stages"][1]

    assert stage["reason"] == "Killed"
    assert "KubeRay says DeadlineExceeded: The RayJob has passed" in stage["message"]


def test_a_rayjob_that_kuberay_refuses_fails_the_job_at_once(cluster: Cluster) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "refused")
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=40s")
    stage = cluster.get("FineTuneJob", "helpdesk")["status"]["stages"][1]

    assert stage["reason"] == "InvalidSpec"
    assert "no more than 47 characters" in stage["message"]


def test_a_suspended_job_gives_all_its_pods_up_and_goes_on_with_the_next_attempt(
    cluster: Cluster,
) -> None:
    with a_training(cluster) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": True}}).raise_for_status()
        kuberay.let_go(rayjob)
        cluster.kubectl("wait", "--for=condition=Suspended", "ftj/helpdesk", "--timeout=60s")
        cluster.kubectl("wait", "--for=delete", "rayjob", "--all", "--timeout=60s")
        left = json.loads(cluster.kubectl("get", "pods", "-l", "ray.io/cluster", "--output=json"))[
            "items"
        ]
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": False}}).raise_for_status()
        second = KubeRay(cluster).rayjob()

    assert left == []
    assert second["metadata"]["name"] == rayjob["metadata"]["name"].replace("-1-", "-2-")


def test_a_rayjob_that_somebody_suspends_by_hand_is_told_of_and_goes_on(cluster: Cluster) -> None:
    with a_training(cluster, preRunningDeadlineSeconds=30) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        wait_for_reason(cluster, "Running")
        name = rayjob["metadata"]["name"]
        by_hand = ("patch", "rayjob", name, "--type=merge", "--patch")
        cluster.kubectl(*by_hand, json.dumps({"spec": {"suspend": True}}))
        kuberay.play(rayjob, "suspended")
        told = wait_for_reason(cluster, "PodNotCreated")
        cluster.kubectl(*by_hand, json.dumps({"spec": {"suspend": False}}))
        kuberay.play(rayjob, "running")
        wait_for_reason(cluster, "Running")

    assert told.startswith(f"train has no pod: somebody suspended RayJob {name}")
    assert attempts_of(cluster)[1] == ("train", 1, "Running")


def test_the_schema_and_the_restricted_standard_take_every_part_of_it(cluster: Cluster) -> None:
    needs_kuberay()
    kubectl("label", "namespace", cluster.namespace,
            "pod-security.kubernetes.io/enforce=restricted")  # fmt: skip
    owner = JobRef(name="helpdesk", namespace=cluster.namespace, uid="0")
    rayjob = rayjob_for(owner=owner, resources={
        "workers": 2, "gpusPerWorker": 1, "spot": True, "nodeSelector": {"pool": "a"},
        "priorityClassName": "batch", "imagePullSecrets": [{"name": "registry"}],
    }, queueName="team")  # fmt: skip
    ray = rayjob["spec"]["rayClusterSpec"]
    made = [tried(cluster, "/apis/ray.io/v1", "rayjobs", rayjob)]
    for group in (ray["headGroupSpec"], ray["workerGroupSpecs"][0]):
        template = group["template"]
        metadata = {**template["metadata"], "name": "pod"}
        # Neither the class nor the account is there, which is no fault of the pod's.
        spec = {**template["spec"], "serviceAccountName": "default"}
        del spec["priorityClassName"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        made.append(tried(cluster, "/api/v1", "pods", pod))

    assert made == ["", "", ""]


def tried(cluster: Cluster, prefix: str, plural: str, manifest: dict[str, Any]) -> str:
    """What the server has against the manifest."""
    answer = cluster.http.post(
        f"{prefix}/namespaces/{cluster.namespace}/{plural}",
        params={"fieldValidation": "Strict", "dryRun": "All"},
        json=manifest,
    )
    return "" if answer.is_success else answer.text


def test_workers_before_an_object_store_have_pods_of_their_own_and_no_volume(
    cluster: Cluster,
) -> None:
    store = {
        "workspace": {"uri": "s3://jobs/a"},
        "output": {"model": "helpdesk", "uri": "s3://models"},
    }
    with a_training(cluster, **store) as (kuberay, rayjob):
        kuberay.play(rayjob, "running")
        pods = [kuberay.pod(kind) for kind in ("head", "worker")]

        claims = cluster.kubectl("get", "persistentvolumeclaims", "--output=name")

    assert all(request_of(cluster, each).apart for each in pods)
    volumes = [volume for each in pods for volume in each["spec"]["volumes"]]
    assert not any("persistentVolumeClaim" in volume for volume in volumes)
    assert not claims
