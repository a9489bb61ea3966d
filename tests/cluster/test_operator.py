"""The operator as a process against a real control plane; the tests play kubelet and stages."""

import json
import time
from typing import Any

import httpx
import pytest

from cluster import Cluster
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, report_with, request_of, run_pods, succeeded, token_of
from tunesmith_operator.kube.objects import condition_of

STAGES = ["prepare", "train", "evaluate", "compress", "verify", "publish"]
PHASES = ["Preparing", "Training", "Evaluating", "Compressing", "Verifying", "Publishing"]


def wait_for_nothing(cluster: Cluster, *, timeout_s: float = 60) -> str:
    """What is left of all jobs; a claim stays while no controller of volumes is there to let go."""
    kinds = "job,pod,pvc,sa,role,rolebinding,cm"
    give_up = time.monotonic() + timeout_s
    while True:
        found = cluster.kubectl("get", kinds, "-l", "tunesmith.dev/job", "-o", "name")
        left = found.replace("persistentvolumeclaim/helpdesk-tunesmith\n", "")
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.2)


def events_of(cluster: Cluster, job: str) -> list[str]:
    """The reasons of the job's Events, of which no two are alike, in the order of a job's life."""
    of_job = f"--field-selector=involvedObject.kind=FineTuneJob,involvedObject.name={job}"
    events = json.loads(cluster.kubectl("get", "events", of_job, "--output=json"))["items"]
    reasons = {each["reason"] for each in events}
    assert len(reasons) == len(events)
    return sorted(reasons, key=[*PHASES, "Succeeded"].index)


def test_a_job_goes_through_all_stages_and_its_deletion_leaves_nothing(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace) as (_, port):
        ran = run_pods(cluster, "helpdesk")
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    cluster.kubectl("wait", "--for=condition=Complete", "ftj/helpdesk", "--timeout=5s")
    job = cluster.get("FineTuneJob", "helpdesk")
    told = events_of(cluster, "helpdesk")
    cluster.kubectl("delete", "ftj/helpdesk", "--cascade=foreground", "--timeout=60s")
    assert ran == [f"{stage}-1" for stage in STAGES]
    assert [each["state"] for each in job["status"]["stages"]] == ["Succeeded"] * 6
    assert "annotations" not in job["metadata"]
    assert "finalizers" not in job["metadata"]
    assert (
        'controller_runtime_reconcile_total{controller="finetunejob",result="requeue_after"}'
        in metrics
    )
    assert wait_for_nothing(cluster) == ""
    assert told == [*PHASES, "Succeeded"]


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, "HostOOMKilled"),
        ({"exitCode": 3, "reason": "Error"}, "StageCrashed"),
    ],
)
def test_a_crashed_stage_fails_the_job_and_says_why(
    cluster: Cluster, ended: dict[str, Any], reason: str
) -> None:
    cluster.create(a_job(backoffLimit=0)).raise_for_status()

    with an_operator(cluster.namespace):
        end_pod(cluster, wait_for_pod(cluster), None, ended=ended)
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=40s")
    status = cluster.get("FineTuneJob", "helpdesk")["status"]

    assert status["stages"][0]["reason"] == reason
    assert str(ended["exitCode"]) in status["stages"][0]["message"]


def test_a_job_that_fits_on_no_node_says_so_within_seconds(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        cluster.kubectl(
            "wait",
            "ftj/helpdesk",
            "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Unschedulable",
            "--timeout=60s",
        )
    ready = condition_of(cluster.get("FineTuneJob", "helpdesk"), "Ready") or {}

    assert "prepare fits on no node" in ready["message"]


def test_a_verdict_of_a_stage_is_the_reason_of_the_job(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)
        verdict = {"outcome": "Failed", "reason": "DatasetNotFound", "bad_input": True}
        result = succeeded(request_of(cluster, pod)).model_copy(update=verdict)
        end_pod(cluster, pod, result, ended={"exitCode": 2})
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=40s")
    status = cluster.get("FineTuneJob", "helpdesk")["status"]
    failed = next(each for each in status["conditions"] if each["type"] == "Failed")

    assert failed["reason"] == "DatasetNotFound"


def test_another_replica_takes_over_when_the_leader_is_killed(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace) as (first, _):
        pod = wait_for_pod(cluster)
        with an_operator(cluster.namespace):
            first.kill()
            end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
            # The Lease of the dead leader alone takes up to 15 s of it.
            ran = run_pods(cluster, "helpdesk", timeout_s=120)
    jobs = json.loads(cluster.kubectl("get", "jobs", "--output=json"))["items"]

    assert ran == [f"{stage}-1" for stage in STAGES[1:]]
    assert len(jobs) == len(STAGES)


def test_a_suspended_job_gives_its_pod_up_and_goes_on_with_the_next_attempt(
    cluster: Cluster,
) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)
        report_with(
            token_of(cluster, pod), address=request_of(cluster, pod).report, text='{"stage": "?"}'
        )
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": True}}).raise_for_status()
        cluster.kubectl("wait", "--for=condition=Suspended", "ftj/helpdesk", "--timeout=30s")
        cluster.kubectl("wait", "--for=delete", "job", "--all", "--timeout=30s")
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": False}}).raise_for_status()
        ran = run_pods(cluster, "helpdesk")

    report = json.loads(cluster.kubectl("get", "configmap/helpdesk-tunesmith", "--output=json"))
    told = sorted(each.rpartition("-")[0] for each in report["data"])
    assert ran == ["prepare-2", *(f"{stage}-1" for stage in STAGES[1:])]
    assert told == sorted(ran)
