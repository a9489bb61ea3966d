"""Deployments that get one version after the other, beside the jobs of a crowd.

Each lies in a namespace of its own with nodes and a Gateway, and clients ask all the time.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import httpx

from cluster import Cluster
from crowd import Crowd, wait_until
from model_deployments import (
    CANARY,
    GATEWAY,
    a_deployment,
    condition,
    is_at_rest,
    make_gateway,
    publish,
)
from serving_cluster import ServingCluster

Json = dict[str, Any]
NAME: Final = "helpdesk"
# Longer than a clock is set ahead, which counts as time that replicas took to get ready.
_PATIENT: Final = {"progressDeadlineSeconds": 7200}
ROLLOUTS: Final[dict[str, Json]] = {
    # Few requests, and evidence that goes with each operator: time is up for many a verdict.
    "canary": CANARY | _PATIENT | {"onInconclusive": "promote"},
    "blue-green": _PATIENT | {"strategy": "blueGreen", "drainSeconds": 10},
}
# What was rolled back, and what monitoring has measured since: the longer it is there, the more.
_OF_ITS_PAST: Final = {"RolledBack", "DriftDetected", "ArtifactMismatch", "BiasGrown", "SLOBurning"}
_REQUESTS_PER_S: Final = 8.0
_CHILDREN: Final = (
    "apps/v1/deployments",
    "v1/services",
    "policy/v1/poddisruptionbudgets",
    "gateway.networking.k8s.io/v1/httproutes",
)


class DeploymentInFlight:
    """One deployment, and the versions that were published for it."""

    def __init__(self, serving: ServingCluster) -> None:
        self.serving = serving
        self.published: list[str] = []
        # As far as looked.
        self.rejected: set[str] = set()

    @property
    def namespace(self) -> str:
        return self.serving.cluster.namespace

    @property
    def summary(self) -> str:
        """What was published, and what came of it."""
        answers = sum(self.serving.answers.by_version.values())
        return f"{len(self.published)} versions, rejected {self.rejected}, {answers} answers"

    def create(self, rollout: Json, *, version: str) -> None:
        """Publish that version, and create the deployment."""
        self.publish(version)
        deployment = a_deployment(gateway=GATEWAY, rollout=rollout)
        self.serving.cluster.create(deployment).raise_for_status()

    def publish(self, version: str) -> None:
        """Publish another version."""
        publish(self.serving.cluster, version)
        self.published.append(version)

    def unexplained(self) -> Json:
        """The status, if it is silent on the newest version, or on what it waits for; else none."""
        status, newest = self._status(), self.published[-1]
        known = [status.get(place, {}).get("version") for place in ("stable", "candidate")]
        known += self.rejected
        words = [condition(status, type_).get("message") for type_ in ("Ready", "Reconciling")]
        return {} if newest in known and all(words) else {"newest": newest, "status": status}

    def wait_until_at_rest(self, *, timeout_s: float) -> Json:
        """Let the newest version come to serve that is not rejected; how it stands then."""

        def is_done(status: Json) -> bool:
            self.rejected |= _rejected(status)
            left = [version for version in self.published if version not in self.rejected]
            return "stable" in status and is_at_rest(left[-1])(status)

        status = self.serving.wait_until(is_done, timeout_s=timeout_s)
        wait_until(lambda: not any(map(_is_going, self._children())), timeout_s=timeout_s)
        return _picture(status, self._children())

    def orphans(self) -> list[str]:
        """Children that no deployment owns that is there."""
        uid = self.serving.cluster.get("ModelDeployment", NAME)["metadata"]["uid"]
        return [
            f"{self.namespace}/{path}/{child['metadata']['name']}"
            for path, child in self._children()
            if uid not in {owner["uid"] for owner in child["metadata"].get("ownerReferences", ())}
        ]

    def _children(self) -> list[tuple[str, Json]]:
        """What bears the operator's labels."""
        return [
            (path, child)
            for path in _CHILDREN
            for child in self.serving.objects(path)
            if "app.kubernetes.io/managed-by" in child["metadata"].get("labels", {})
        ]

    def _status(self) -> Json:
        status: Json = self.serving.cluster.get("ModelDeployment", NAME).get("status", {})
        self.rejected |= _rejected(status)
        return status


@contextmanager
def in_flight(
    http: httpx.Client, crowd: Crowd, names: Iterable[str] = tuple(ROLLOUTS), *, version: str = "v1"
) -> Iterator[dict[str, DeploymentInFlight]]:
    """A deployment for each of these rollouts, asked all the time; deleted at the end."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(_one(http, crowd, name, version)) for name in names}


@contextmanager
def _one(http: httpx.Client, crowd: Crowd, name: str, version: str) -> Iterator[DeploymentInFlight]:
    with crowd.place_beside(f"{name}-from-{version}") as namespace:
        cluster = Cluster(http, namespace)
        assert make_gateway(cluster), "start the control plane with --crds gateway"
        with ServingCluster(cluster).running() as serving:
            found = DeploymentInFlight(serving)
            found.create(ROLLOUTS[name], version=version)
            serving.requests_per_second = _REQUESTS_PER_S
            yield found
            serving.requests_per_second = 0


def _rejected(status: Json) -> set[str]:
    return {each["version"] for each in status.get("rejected", ())}


def _is_going(child: tuple[str, Json]) -> bool:
    return "deletionTimestamp" in child[1]["metadata"]


def _picture(status: Json, children: list[tuple[str, Json]]) -> Json:
    """How it stands, in words that two deployments with one spec share."""
    kept = ("phase", "observedGeneration")
    told = {
        each["type"]: (each["status"], each["reason"], each["message"])
        for each in status["conditions"]
        if each["type"] not in _OF_ITS_PAST
    }
    stable = {key: status["stable"].get(key) for key in ("version", "digest", "replicas", "weight")}
    names = sorted(f"{path}/{child['metadata']['name']}" for path, child in children)
    found = {key: status[key] for key in kept}
    return found | {"conditions": told, "stable": stable, "children": names}
