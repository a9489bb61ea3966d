"""A job in a queue of Kueue, whose part a stand-in plays on the real API server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clock import now_text
from cluster import Cluster
from kueue import FLAVOR, MANAGER, Kueue, needs_kueue
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, pending_pods, request_of, succeeded
from tunesmith_operator.kube.objects import condition_of


@contextmanager
def a_queued_job(cluster: Cluster, **spec: Any) -> Iterator[tuple[Kueue, str]]:
    """A job whose first stage has been created, and the name of that stage's Job."""
    needs_kueue()
    cluster.create(a_job(queueName="team-a", **spec)).raise_for_status()
    with an_operator(cluster.namespace):
        kueue = Kueue(cluster)
        yield kueue, kueue.next_job()


def wait_for_reason(cluster: Cluster, reason: str) -> dict[str, Any]:
    """The job, once it waits for this reason."""
    cluster.kubectl(
        "wait",
        "ftj/helpdesk",
        f"--for=jsonpath={{.status.conditions[?(@.type=='Ready')].reason}}={reason}",
        "--timeout=60s",
    )
    return cluster.get("FineTuneJob", "helpdesk")


def wait_for_phase(cluster: Cluster, phase: str) -> dict[str, Any]:
    cluster.kubectl(
        "wait", "ftj/helpdesk", f"--for=jsonpath={{.status.phase}}={phase}", "--timeout=60s"
    )
    return cluster.get("FineTuneJob", "helpdesk")


def run_pod(cluster: Cluster) -> None:
    """Let the kubelet start the pod that there is."""
    name = wait_for_pod(cluster)["metadata"]["name"]
    state = {"name": "stage", "image": "x", "imageID": "x", "ready": True, "restartCount": 0}
    running = {**state, "state": {"running": {"startedAt": now_text()}}}
    cluster.http.patch(
        f"/api/v1/namespaces/{cluster.namespace}/pods/{name}/status",
        content=json.dumps({"status": {"phase": "Running", "containerStatuses": [running]}}),
        headers={"Content-Type": "application/merge-patch+json"},
    ).raise_for_status()


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        ("waits-for-quota", "WaitingForQuota"),
        ("no-such-queue", "QueueNotFound"),
        ("too-big", "ExceedsMaxQuota"),
        ("deactivated", "WorkloadDeactivated"),
    ],
)
def test_a_job_that_is_not_let_in_says_which_of_all_the_reasons_it_is(
    cluster: Cluster, situation: str, reason: str
) -> None:
    with a_queued_job(cluster) as (kueue, name):
        kueue.take_up(name)
        kueue.say(name, situation)
        job = wait_for_reason(cluster, reason)
        pods = pending_pods(cluster)

    assert job["status"]["phase"] == "Queued"
    assert job["status"]["stages"][0]["state"] == "Waiting"
    assert "Running" not in {each["reason"] for each in job["status"]["conditions"]}
    assert "team-a" in (condition_of(job, "Ready") or {})["message"]
    assert pods == []


def test_a_job_goes_on_as_soon_as_its_queue_admits_it(cluster: Cluster) -> None:
    with a_queued_job(cluster) as (kueue, name):
        kueue.take_up(name)
        kueue.say(name, "waits-for-quota")
        wait_for_phase(cluster, "Queued")
        kueue.admit(name)
        pod = wait_for_pod(cluster)
        wait_for_phase(cluster, "Preparing")
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        cluster.kubectl("wait", "--for=condition=DataReady", "ftj/helpdesk", "--timeout=30s")

    assert pod["spec"]["nodeSelector"] == FLAVOR["nodeSelector"]


def test_what_a_queue_preempts_starts_again_by_itself_and_counts_for_nothing(
    cluster: Cluster,
) -> None:
    with a_queued_job(cluster, backoffLimit=0) as (kueue, name):
        kueue.take_up(name)
        kueue.admit(name)
        run_pod(cluster)
        first = pods_of(cluster)
        kueue.preempt(name)
        preempted = wait_for_reason(cluster, "Preempted")
        cluster.kubectl("wait", "--for=delete", f"pod/{first[0]}", "--timeout=30s")
        kueue.admit(name)
        pod = wait_for_pod(cluster)
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        cluster.kubectl("wait", "--for=condition=DataReady", "ftj/helpdesk", "--timeout=30s")
        job = cluster.get("FineTuneJob", "helpdesk")

    assert preempted["status"]["phase"] == "Queued"
    assert pod["metadata"]["name"] not in first
    assert (job["status"]["stages"][0]["attempt"], job["status"]["stages"][0]["failures"]) == (1, 0)


def pods_of(cluster: Cluster) -> list[str]:
    found = json.loads(cluster.kubectl("get", "pods", "--output=json"))["items"]
    return [each["metadata"]["name"] for each in found]


def test_what_kueue_writes_into_a_job_is_never_fought_over(cluster: Cluster) -> None:
    with a_queued_job(cluster) as (kueue, name):
        kueue.take_up(name)
        kueue.admit(name)
        run_pod(cluster)
        before = kueue.job(name)
        for _ in range(3):
            cluster.kubectl("label", "ftj/helpdesk", f"seen={time.monotonic_ns()}", "--overwrite")
            time.sleep(0.5)
        after = kueue.job(name)
        of_spec = [
            (each["manager"], each["operation"])
            for each in after["metadata"]["managedFields"]
            if "f:spec" in each["fieldsV1"]
        ]

    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]
    assert after["spec"]["template"]["spec"]["nodeSelector"] == FLAVOR["nodeSelector"]
    assert sorted(of_spec) == [(MANAGER, "Update"), ("tunesmith-operator", "Update")]
