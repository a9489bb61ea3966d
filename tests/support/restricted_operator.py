"""An operator that may do what the table of permissions says, and nothing else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import Cluster, kubectl
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


@contextmanager
def restricted_account(cluster: Cluster) -> Iterator[None]:
    """The namespace has an account that may do what the table says, there and in the cluster."""
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": cluster.namespace}
    name = f"{ACCOUNT}-{cluster.namespace}"
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
        *_granted("", ACCOUNT, subject, rules_of("jobs", "own")),
        *_granted("Cluster", name, subject, rules_of("cluster")),
    ]
    for each in made:
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(each))
    yield
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
