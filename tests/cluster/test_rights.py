"""The operator with the rights of its table and no others: all are used, and no call is denied."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster, kubectl
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import run_pods
from tunesmith_operator.permissions import PERMISSIONS

ACCOUNT = "restricted-operator"


def rules_of(*scopes: str) -> list[dict[str, Any]]:
    """What the table says for these scopes, as the rules of a role."""
    return [
        {
            "apiGroups": [each.group],
            "resources": list(each.resources),
            "verbs": list(each.verbs),
            **({"resourceNames": list(each.names)} if each.names else {}),
        }
        for each in PERMISSIONS
        if each.scope in scopes
    ]


@pytest.fixture
def restricted(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace with an account that may do what the table says, there and in the cluster."""
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": cluster.namespace}
    name = f"{ACCOUNT}-{cluster.namespace}"
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
        *_granted("", ACCOUNT, subject, rules_of("jobs", "own")),
        *_granted("Cluster", name, subject, rules_of("cluster")),
    ]
    for each in made:
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(each))
    yield cluster
    kubectl("delete", f"clusterrole/{name}", f"clusterrolebinding/{name}")


def _granted(
    where: str, name: str, subject: dict[str, Any], rules: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{where}Role", "name": name}
    yield head | {"kind": f"{where}Role", "rules": rules}
    yield head | {"kind": f"{where}RoleBinding", "subjects": [subject], "roleRef": role}


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
    restricted: Cluster, audit_log: Path, tmp_path: Path
) -> None:
    cluster = restricted
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace, KUBECONFIG=kubeconfig_of(cluster, tmp_path)):
        wait_for_pod(cluster)
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": True}}).raise_for_status()
        cluster.kubectl("wait", "--for=delete", "job", "--all", "--timeout=60s")
        cluster.merge("FineTuneJob", "helpdesk", {"spec": {"suspend": False}}).raise_for_status()
        run_pods(cluster, "helpdesk", timeout_s=120)
        ttl = {"spec": {"ttlSecondsAfterFinished": 0}}
        cluster.merge("FineTuneJob", "helpdesk", ttl).raise_for_status()
        cluster.kubectl("wait", "--for=delete", "ftj/helpdesk", "--timeout=60s")
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
