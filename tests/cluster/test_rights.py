"""The operator with the rights of its table and no others: all are used, and no call is denied."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit_log import AuditLog
from cluster import Cluster, kubectl
from kuberay import KubeRay
from model_deployments import GATEWAY, a_deployment, is_at_rest, make_gateway, publish
from operator_process import a_job, an_operator, wait_for_pod
from restricted_operator import ACCOUNT, kubeconfig_of, restricted_account
from serving_cluster import ServingCluster
from stage_pods import end_pod, mount_nothing, publish_to_volume, request_of, run_pods, succeeded
from tunesmith_operator.finetunejob.child_names import JOB_MARK, shared_name
from tunesmith_operator.permissions import PERMISSIONS

# Of the first the requests come through a Gateway, where the Gateway API is defined.
DEPLOYMENTS = ("routed", "plain")
WAITS_FOR_VOLUME = (
    "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=VolumeUnavailable"
)


@pytest.fixture
def restricted(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace with an account that may do what the table says, there and in the cluster."""
    with restricted_account(cluster):
        yield cluster


def calls_of(cluster: Cluster, log: AuditLog) -> list[dict[str, Any]]:
    """What the account has asked of the API server."""
    user = f"system:serviceaccount:{cluster.namespace}:{ACCOUNT}"
    return [each for each in log.calls(user) if each["user"]["username"] == user]


def rights_used(call: dict[str, Any]) -> set[tuple[str, str, str]]:
    """The right that a call needs; an apply that creates needs two."""
    target = call["objectRef"]
    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
    verbs = {call["verb"]} | ({"create"} if call["responseStatus"]["code"] == 201 else set())
    return {(target.get("apiGroup", ""), resource, verb) for verb in verbs}


def train_in_several_pods(cluster: Cluster) -> None:
    """Hand a training to KubeRay, where its kinds are defined, and suspend it."""
    if "ray.io/v1" not in kubectl("api-versions").splitlines():
        return
    cluster.create(a_job("several", resources={"workers": 2})).raise_for_status()
    pod = wait_for_pod(cluster)
    end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
    KubeRay(cluster).rayjob()
    cluster.merge("FineTuneJob", "several", {"spec": {"suspend": True}}).raise_for_status()
    for rayjob in KubeRay(cluster).rayjobs():
        KubeRay(cluster).let_go(rayjob)
    cluster.kubectl("wait", "--for=delete", "rayjob", "--all", "--timeout=60s")


def serve_two_versions(cluster: Cluster, *names: str) -> None:
    """Serve a version by deployments of these names, then another, and then none."""
    make_gateway(cluster)
    rollout = {"strategy": "blueGreen", "drainSeconds": 5}
    for name in names:
        more = {"gateway": GATEWAY} if name == "routed" else {"autoscaling": {"maxReplicas": 2}}
        deployment = a_deployment(rollout=rollout, **more)
        deployment["metadata"]["name"] = name
        cluster.create(deployment).raise_for_status()
    with ServingCluster(cluster).running() as serving:
        for version in ("v1", "v2"):
            publish(cluster, version)
            for name in names:
                serving.wait_until(is_at_rest(version), name=name)
        # Taken away by somebody, it is looked for by name and made again.
        cluster.kubectl("delete", "deployments", "--all")
        # That of the job's own deployment comes again, too.
        serving.wait_until(lambda _: len(serving.versions()) > len(names), name=names[0])
        for name in names:
            suspend = {"spec": {"suspend": True}}
            cluster.merge("ModelDeployment", name, suspend).raise_for_status()
            serving.wait_until(
                lambda status: status["phase"] == "Suspended" and not status["draining"], name=name
            )


def promise_and_take_back(cluster: Cluster) -> None:
    """An SLO that comes, changes and goes, where Prometheus' operator is installed."""
    if "monitoring.coreos.com/v1" not in kubectl("api-versions").splitlines():
        return
    rule = "prometheusrule/promised"
    slo = {"availability": {"objective": 0.99}}
    deployment = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "promised"},
        "spec": {"model": "helpdesk", "slo": slo},
    }
    cluster.create(deployment).raise_for_status()
    cluster.kubectl("wait", "--for=create", rule, "--timeout=60s")
    stricter = {"spec": {"slo": {"availability": {"objective": 0.999}}}}
    cluster.merge("ModelDeployment", "promised", stricter).raise_for_status()
    objective = "{.spec.groups[0].rules[2].expr}"
    cluster.kubectl("wait", rule, f"--for=jsonpath={objective}=vector(0.999)", "--timeout=60s")
    cluster.merge("ModelDeployment", "promised", {"spec": {"slo": None}}).raise_for_status()
    cluster.kubectl("wait", "--for=delete", rule, "--timeout=60s")
    # Its replica waits for a node for ever, and would be taken for the pod of the next job.
    cluster.kubectl("delete", "mdep/promised", "--cascade=foreground", "--timeout=60s")


def train_anew(cluster: Cluster) -> None:
    """A deployment whose status names the next job: what a drift leads to."""
    deployment = a_deployment(
        suspend=True,
        monitoring={"onDrift": {"traffic": ["retrain"]}, "retrain": {"jobName": "stuck"}},
    )
    deployment["metadata"]["name"] = "drifting"
    cluster.create(deployment).raise_for_status()
    named = {"job": "next", "version": "v1", "time": "2026-11-27T12:00:00Z"}
    status = {"status": {"monitoring": {"retrainings": [named]}}}
    patch = ["--subresource=status", "--type=merge", f"--patch={json.dumps(status)}"]
    cluster.kubectl("patch", "mdep/drifting", *patch)
    cluster.kubectl("wait", "--for=create", "ftj/next", "--timeout=60s")


def mend_and_keep(cluster: Cluster) -> None:
    """A job with an account of its own, which somebody bends, and with a version on its volume."""
    # The mark in its name keeps it from the account that jobs share.
    job = f"own{JOB_MARK}account"
    cluster.create(a_job(job)).raise_for_status()
    wait_for_pod(cluster)
    cluster.merge("FineTuneJob", job, {"spec": {"suspend": True}}).raise_for_status()
    cluster.kubectl("wait", "--for=delete", "job", "--all", "--timeout=60s")
    bent = {
        "serviceaccount": {"automountServiceAccountToken": True},
        "role": {"rules": []},
        "rolebinding": {"subjects": []},
    }
    for kind, change in bent.items():
        name = f"{kind}/{shared_name(job)}"
        cluster.kubectl("patch", name, "--type=merge", f"--patch={json.dumps(change)}")
    cluster.merge("FineTuneJob", job, {"spec": {"suspend": False}}).raise_for_status()
    publish_to_volume(cluster, job)
    cluster.kubectl("delete", "mver/helpdesk-1a2b3c", f"ftj/{job}", "--timeout=60s")


# What a deployment's monitor remembers is written five minutes after the first reading
# (`modeldeployment/monitors.py`).
AFTER_MINUTES = {("", "configmaps", "patch")}


def test_every_right_of_the_table_is_used_and_no_call_is_denied(
    restricted: Cluster, audit_log: AuditLog, tmp_path: Path
) -> None:
    cluster = restricted
    cluster.create(a_job(deploy={"name": "of-job"})).raise_for_status()

    flags = ["--prometheus-url=http://prometheus:9090", "--runbook-url=https://wiki"]
    account = kubeconfig_of(cluster, tmp_path)
    with an_operator(cluster.namespace, *flags, KUBECONFIG=account):
        wait_for_pod(cluster)
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": True}}).raise_for_status()
        cluster.kubectl("wait", "--for=delete", "job", "--all", "--timeout=60s")
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": False}}).raise_for_status()
        run_pods(cluster, "helpdesk", timeout_s=120)
        serve_two_versions(cluster, *DEPLOYMENTS)
        ttl = {"spec": {"ttlSecondsAfterFinished": 0}}
        cluster.merge("FineTuneJob", "helpdesk", ttl).raise_for_status()
        cluster.kubectl("wait", "--for=delete", "ftj/helpdesk", "--timeout=60s")
        mend_and_keep(cluster)
        train_in_several_pods(cluster)
        promise_and_take_back(cluster)
        cluster.create(a_job("queued", queueName="team")).raise_for_status()
        cluster.kubectl("wait", "ftj/queued", "--for=jsonpath={.status.phase}=Queued")
        cluster.create(a_job("stuck")).raise_for_status()
        mount_nothing(cluster, wait_for_pod(cluster), "no such device")
        cluster.kubectl("wait", "ftj/stuck", WAITS_FOR_VOLUME, "--timeout=30s")
        train_anew(cluster)
    calls = calls_of(cluster, audit_log)
    denied = [each["requestURI"] for each in calls if each["responseStatus"]["code"] == 403]
    asked = [rights_used(each) for each in calls if "objectRef" in each]
    served = {line.rpartition("/")[0] for line in kubectl("api-versions").splitlines()}
    table = {
        (each.group, resource, verb)
        for each in PERMISSIONS
        if each.group in served
        for resource in each.resources
        for verb in each.verbs
    }

    assert denied == []
    assert table - set().union(*asked) <= AFTER_MINUTES
