"""The operator with the rights of its table and no others: all are used, and no call is denied."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster, kubectl
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import run_pods
from tunesmith_operator.permissions import PERMISSIONS

ACCOUNT = "restricted-operator"


@pytest.fixture
def audit_log() -> Path:
    """Where the API server of the tests writes down who asked for what."""
    path = Path(os.environ["KUBECONFIG"]).parent / "logs" / "audit.jsonl"
    if not path.exists():
        pytest.skip(f"no audit log at {path}: start the control plane with --audit")
    return path


def give_rights(cluster: Cluster) -> None:
    """An account in the namespace that may do what the table says."""
    rules = [
        {
            "apiGroups": [each.group],
            "resources": list(each.resources),
            "verbs": list(each.verbs),
        }
        for each in PERMISSIONS
    ]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": cluster.namespace}
    rbac = "rbac.authorization.k8s.io"
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount"},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
        },
    ]
    for each in made:
        each["metadata"] = {"name": ACCOUNT, "namespace": cluster.namespace}
        kubectl("create", "--filename=-", stdin=json.dumps(each))


def kubeconfig_of(cluster: Cluster, folder: Path) -> str:
    """The kubeconfig of that account."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output=json"))
    token = cluster.kubectl("create", "token", ACCOUNT)
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def calls_of(cluster: Cluster, log: Path) -> list[dict[str, Any]]:
    """What the account has asked of the API server."""
    user = f"system:serviceaccount:{cluster.namespace}:{ACCOUNT}"
    lines = (line for line in log.read_text().splitlines() if user in line)
    calls = [json.loads(line) for line in lines]
    return [each for each in calls if each["user"]["username"] == user]


def rights_used(call: dict[str, Any]) -> set[tuple[str, str, str]]:
    """The right that a call needs; an apply that creates needs two."""
    target = call["objectRef"]
    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
    verbs = {call["verb"]} | ({"create"} if call["responseStatus"]["code"] == 201 else set())
    return {(target.get("apiGroup", ""), resource, verb) for verb in verbs}


def test_every_right_of_the_table_is_used_and_no_call_is_denied(
    cluster: Cluster, audit_log: Path, tmp_path: Path
) -> None:
    give_rights(cluster)
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace, KUBECONFIG=kubeconfig_of(cluster, tmp_path)):
        wait_for_pod(cluster)
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": True}}).raise_for_status()
        cluster.kubectl("wait", "--for=delete", "job", "--all", "--timeout=60s")
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": False}}).raise_for_status()
        run_pods(cluster, "helpdesk", timeout_s=120)
        cluster.create(a_job("queued", queueName="team")).raise_for_status()
        cluster.kubectl("wait", "ftj/queued", "--for=jsonpath={.status.phase}=Queued")
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
    assert table - set().union(*asked) == set()
