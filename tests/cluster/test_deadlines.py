"""The limits of time that a job sets, on a real control plane; tests play kubelet and stages."""

from cluster import Cluster
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, request_of, run_pods, succeeded
from tunesmith_operator.kube.objects import condition_of


def test_a_job_that_waits_too_long_for_a_node_fails_with_that_and_leaves_no_pod(
    cluster: Cluster,
) -> None:
    cluster.create(a_job(preRunningDeadlineSeconds=5)).raise_for_status()

    with an_operator(cluster.namespace):
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=60s")
        cluster.kubectl("wait", "--for=delete", "job", "--all", "--timeout=30s")
    failed = condition_of(cluster.get("FineTuneJob", "helpdesk"), "Failed") or {}

    assert failed["reason"] == "Unschedulable"
    assert failed["message"].startswith("preRunningDeadlineSeconds: 5 is over; prepare fits on no")


def test_a_job_that_takes_too_long_is_stopped(cluster: Cluster) -> None:
    cluster.create(a_job(activeDeadlineSeconds=1_000_000)).raise_for_status()

    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        cluster.kubectl("wait", "--for=condition=DataReady", "ftj/helpdesk", "--timeout=40s")
        shorter = {"spec": {"activeDeadlineSeconds": 1}}
        cluster.merge("FineTuneJob", "helpdesk", shorter).raise_for_status()
        cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=60s")
    status = cluster.get("FineTuneJob", "helpdesk")["status"]

    assert "activeDeadlineSeconds: 1" in status["stages"][1]["message"]


def test_a_job_is_deleted_when_it_says_so_with_all_that_was_its_own(cluster: Cluster) -> None:
    cluster.create(a_job(ttlSecondsAfterFinished=2)).raise_for_status()
    cluster.create(a_job("kept")).raise_for_status()

    with an_operator(cluster.namespace):
        run_pods(cluster, "kept")
        cluster.kubectl("wait", "--for=delete", "ftj/helpdesk", "--timeout=60s")
    of_job = ("-l", "tunesmith.dev/job=helpdesk")
    cluster.kubectl("wait", "--for=delete", "jobs,configmaps", *of_job, "--timeout=60s")
    kept = cluster.get("FineTuneJob", "kept")["status"]

    assert kept["phase"] == "Succeeded"
