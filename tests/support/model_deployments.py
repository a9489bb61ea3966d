"""ModelDeployments and versions for tests on a real API server, and what their status says."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from cluster import Cluster, kubectl
from manifests import a_version

Json = dict[str, Any]
Holds = Callable[[Json], bool]

GATEWAY: Final[Json] = {"name": "public"}
# An analysis that settles within seconds of some dozens of requests.
ANALYSIS: Final[Json] = {
    "windowSeconds": 1,
    "warmupSeconds": 1,
    "minimumSamples": 30,
    "deadlineSeconds": 60,
    "metrics": {"errors": {"minimumEffect": 0.1}, "ttftP50": {"minimumEffect": 1.0}},
}
CANARY: Final[Json] = {
    "steps": [{"weight": 50, "seconds": 2}],
    "analysis": ANALYSIS,
    "drainSeconds": 10,
}


def make_gateway(cluster: Cluster) -> bool:
    """Make the Gateway; False where the Gateway API is not defined."""
    if "gateway.networking.k8s.io/v1" not in kubectl("api-versions").splitlines():
        return False
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY["name"]},
        "spec": {
            "gatewayClassName": "tests",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(gateway))
    return True


def a_deployment(**spec: Any) -> Json:
    """A deployment of the model `helpdesk`."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "helpdesk"},
        "spec": {"model": "helpdesk", **spec},
    }


def published(name: str, **spec: Any) -> Json:
    """A version of that model; the digest tells it from others."""
    digest = f"sha256:{sha256(name.encode()).hexdigest()}"
    version = a_version(version=name, uri=f"s3://models/helpdesk/{name}", digest=digest, **spec)
    version["metadata"]["name"] = f"helpdesk-{name}"
    return version


def publish(cluster: Cluster, name: str, **spec: Any) -> None:
    """Publish a version."""
    cluster.create(published(name, **spec)).raise_for_status()


def condition(status: Json, type_: str) -> Json:
    """The condition of this type; empty before there is one."""
    found = (each for each in status.get("conditions", ()) if each["type"] == type_)
    return next(found, {})


def is_at_rest(version: str) -> Holds:
    """Whether that version serves alone, and nothing else goes on."""
    return lambda status: (
        status["phase"] == "Serving"
        and status["stable"]["version"] == version
        and "candidate" not in status
        and not status.get("draining")
        and condition(status, "Reconciling")["status"] == "False"
    )


def has_reason(reason: str) -> Holds:
    """Whether the deployment is not ready for this reason."""
    return lambda status: condition(status, "Ready").get("reason") == reason
