"""What a job needs is taken away while it runs: it says so, and goes on if that is given back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit_log import AuditLog
from cluster import Cluster, kubectl
from operator_process import a_job, an_operator, wait_for_pod
from restricted_operator import ACCOUNT, kubeconfig_of, restricted_account
from stage_pods import end_pod, mount_nothing, request_of, run_pods, succeeded
from tunesmith_operator.kube.objects import condition_of

GIVEN: dict[str, Any] = {"workspace": {"claimName": "mine"}}


def wait_for_reason(cluster: Cluster, reason: str) -> str:
    """The message of the job, once it waits for this reason."""
    cluster.kubectl(
        "wait",
        "ftj/helpdesk",
        f"--for=jsonpath={{.status.conditions[?(@.type=='Ready')].reason}}={reason}",
        "--timeout=90s",
    )
    message: str = (condition_of(cluster.get("FineTuneJob", "helpdesk"), "Ready") or {})["message"]
    return message


@contextmanager
def a_node() -> Iterator[None]:
    """A node that nothing tolerates: the scheduler looks for volumes only where there is one."""
    taint = {"key": "tests", "effect": "NoSchedule"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "tests"}}
    kubectl("create", "--filename=-", stdin=json.dumps(node | {"spec": {"taints": [taint]}}))
    yield
    kubectl("delete", "node/tests")


def test_a_right_that_is_taken_away_is_named_and_the_job_goes_on_when_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    with restricted_account(cluster):
        role = json.loads(cluster.kubectl("get", "role", ACCOUNT, "--output=json"))
        whole = json.dumps(role["rules"])
        for each in role["rules"]:
            if each["resources"] == ["jobs"]:
                each["verbs"].remove("create")
        patch = json.dumps({"rules": role["rules"]})
        cluster.kubectl("patch", "role", ACCOUNT, "--type=merge", "--patch", patch)
        cluster.create(a_job()).raise_for_status()

        with an_operator(cluster.namespace, KUBECONFIG=kubeconfig_of(cluster, tmp_path)):
            message = wait_for_reason(cluster, "Forbidden")
            back = f'{{"rules": {whole}}}'
            cluster.kubectl("patch", "role", ACCOUNT, "--type=merge", "--patch", back)
            cluster.kubectl("label", "ftj/helpdesk", "look=again")
            wait_for_pod(cluster, timeout_s=90)
            ready = wait_for_reason(cluster, "Unschedulable")

    assert message.startswith("the operator may not create jobs.batch here; give it that right")
    assert "fits on no node" in ready


def test_a_quota_that_leaves_no_room_for_a_job_is_quoted(cluster: Cluster) -> None:
    cluster.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0")
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        message = wait_for_reason(cluster, "Forbidden")
        cluster.kubectl("delete", "quota", "none")
        cluster.kubectl("label", "ftj/helpdesk", "look=again")
        wait_for_pod(cluster, timeout_s=90)

    assert "exceeded quota: none" in message


def test_a_report_that_somebody_deletes_is_there_again_before_the_stage_ends(
    cluster: Cluster,
) -> None:
    cluster.create(a_job(backoffLimit=0)).raise_for_status()

    with an_operator(cluster.namespace):
        wait_for_pod(cluster)
        uid = cluster.kubectl("get", "cm/helpdesk-tunesmith", "--output=jsonpath={.metadata.uid}")
        cluster.kubectl("delete", "cm/helpdesk-tunesmith")
        cluster.kubectl("wait", "--for=create", "cm/helpdesk-tunesmith", "--timeout=30s")
        again = cluster.kubectl("get", "cm/helpdesk-tunesmith", "--output=jsonpath={.metadata.uid}")
        ran = run_pods(cluster, "helpdesk")

    assert again != uid
    assert ran[0] == "prepare-1"
    assert cluster.get("FineTuneJob", "helpdesk")["status"]["phase"] == "Succeeded"


def test_results_that_are_deleted_with_the_report_are_made_again(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        cluster.kubectl("wait", "--for=condition=DataReady", "ftj/helpdesk", "--timeout=40s")
        cluster.kubectl("delete", "cm/helpdesk-tunesmith")
        ran = run_pods(cluster, "helpdesk", timeout_s=90)

    assert "prepare-2" in ran
    assert cluster.get("FineTuneJob", "helpdesk")["status"]["phase"] == "Succeeded"


def test_a_volume_that_is_not_there_is_missed_by_name(cluster: Cluster) -> None:
    cluster.create(a_job(**GIVEN)).raise_for_status()

    with a_node(), an_operator(cluster.namespace):
        message = wait_for_reason(cluster, "VolumeUnavailable")

    assert 'persistentvolumeclaim "mine" not found' in message
    assert "Create that claim" in message


def test_what_a_node_cannot_mount_is_told_in_the_words_of_its_kubelet(cluster: Cluster) -> None:
    said = 'MountVolume.SetUp failed for volume "workspace" : rpc error: no such device'
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        mount_nothing(cluster, wait_for_pod(cluster), said)
        message = wait_for_reason(cluster, "VolumeUnavailable")

    assert (
        message == f"prepare: its node cannot mount a volume: {said}. Mend or create what it names"
    )


def test_a_status_that_somebody_empties_leaves_no_second_attempt_beside_the_first(
    cluster: Cluster,
) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        pod = wait_for_pod(cluster)
        end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
        cluster.kubectl("wait", "job", "-l", "tunesmith.dev/job", "--for=create", "--timeout=40s")
        training = wait_for_pod(cluster)
    path = f"{cluster.path('FineTuneJob')}/helpdesk/status"
    job = cluster.get("FineTuneJob", "helpdesk")
    job["status"] = {}
    cluster.http.put(path, json=job).raise_for_status()
    with an_operator(cluster.namespace):
        name = training["metadata"]["name"]
        cluster.kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=60s")
        ran = run_pods(cluster, "helpdesk", timeout_s=90)

    assert training["metadata"]["labels"]["tunesmith.dev/stage"] == "train"
    assert [each.partition("-")[0] for each in ran][:1] == ["train"]
    assert cluster.get("FineTuneJob", "helpdesk")["status"]["phase"] == "Succeeded"


def test_a_namespace_that_is_deleted_takes_its_jobs_along_without_a_fight(
    cluster: Cluster, audit_log: AuditLog
) -> None:
    kubectl("create", "namespace", f"{cluster.namespace}-gone")
    doomed = Cluster(cluster.http, f"{cluster.namespace}-gone")
    for name in ("one", "two", "three"):
        doomed.create(a_job(name, **GIVEN)).raise_for_status()

    with an_operator(cluster.namespace, f"--namespace={doomed.namespace}"):
        wait_for_pod(doomed)
        kubectl("delete", "namespace", doomed.namespace, "--timeout=90s")
    refused = [
        call
        for call in audit_log.calls(doomed.namespace)
        if call.get("objectRef", {}).get("namespace") == doomed.namespace
        and call.get("responseStatus", {}).get("code") == 403
        and "aiohttp" in call.get("userAgent", "")
    ]

    assert len(refused) < 8 * 3


def test_in_a_namespace_that_is_made_again_at_once_a_job_gets_its_identity_back(
    cluster: Cluster,
) -> None:
    again = Cluster(cluster.http, f"{cluster.namespace}-again")
    with an_operator(cluster.namespace, f"--namespace={again.namespace}"):
        for _ in range(2):
            kubectl("create", "namespace", again.namespace)
            again.create(a_job()).raise_for_status()
            wait_for_pod(again, timeout_s=90)
            kubectl("delete", "namespace", again.namespace, "--timeout=90s")
