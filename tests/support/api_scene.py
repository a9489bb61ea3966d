"""Where `api_contract.py` takes place: a namespace of the double, or of a real server."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pytest
from kubernetes.aio.client.exceptions import ApiException

from operator_process import a_job
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.manifests import owned
from tunesmith_operator.kube.client import KubeClient

Manifest = dict[str, Any]
T = TypeVar("T")
HELD = "tests.tunesmith.dev/held"


class Place(Protocol):
    """A namespace of a server, the operator's way to it, and what others do there."""

    cluster: KubeClient
    namespace: str

    def wait(self, request: Coroutine[Any, Any, T]) -> T:
        """The answer to a request of `cluster`."""

    def put(self, manifest: Manifest) -> None:
        """Somebody else creates the object."""

    def change(self, kind: str, name: str, change: Manifest) -> None:
        """Somebody else changes the object, by a merge patch."""

    def defines(self, kind: str) -> bool:
        """Whether somebody has installed the definition of this kind."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Shorter words for one test."""

    place: Place

    def get(self, kind: str, name: str) -> Manifest:
        found = self.look(kind, name)
        assert found is not None, f"no {kind} {name}"
        return found

    def look(self, kind: str, name: str) -> Manifest | None:
        place = self.place
        return place.wait(place.cluster.get(kind, place.namespace, name))

    def names(self, kind: str, labels: str) -> list[str]:
        return [each["metadata"]["name"] for each in self.listed(kind, labels)]

    def listed(self, kind: str, labels: str) -> list[Manifest]:
        place = self.place
        return place.wait(place.cluster.list(kind, place.namespace, labels=labels))

    def apply(self, manifest: Manifest) -> None:
        self.place.wait(self.place.cluster.apply(manifest))

    def create(self, manifest: Manifest) -> bool:
        return self.place.wait(self.place.cluster.create(manifest))

    def patch_status(self, found: Manifest, change: Manifest) -> str:
        return self.place.wait(self.place.cluster.patch_status(found, change))

    def patch(self, kind: str, name: str, change: Manifest) -> None:
        place = self.place
        place.wait(place.cluster.patch(kind, place.namespace, name, change))

    def delete(self, kind: str, name: str, *, as_seen: Manifest | None = None) -> None:
        place = self.place
        place.wait(place.cluster.delete(kind, place.namespace, name, as_seen=as_seen))

    def hold(self, kind: str, name: str, *, is_held: bool = True) -> None:
        """Put a finalizer on the object, or take it away."""
        self.place.change(kind, name, {"metadata": {"finalizers": [HELD] if is_held else None}})

    def delete_but_hold(self, kind: str, name: str) -> None:
        """Delete the object, which a finalizer then holds."""
        self.hold(kind, name)
        self.delete(kind, name)
        eventually(lambda: self.get(kind, name)["metadata"]["finalizers"] == [HELD])

    def a_job(self, name: str = "helpdesk") -> JobRef:
        """A FineTuneJob that somebody has made."""
        manifest = a_job(name)
        manifest["metadata"]["namespace"] = self.place.namespace
        self.place.put(manifest)
        uid = self.get("FineTuneJob", name)["metadata"]["uid"]
        return JobRef(name=name, namespace=self.place.namespace, uid=uid)


def a_map(owner: JobRef, name: str = "report", **data: str) -> Manifest:
    """A ConfigMap of a job."""
    return owned("v1", "ConfigMap", name, owner, data=data)


def a_batch_job(owner: JobRef, name: str = "prepare", **spec: Any) -> Manifest:
    """A batch Job of a job that runs nothing."""
    container = {"name": "stage", "image": "stages:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return owned(
        "batch/v1", "Job", name, owner, spec={"suspend": True, "template": template, **spec}
    )


def eventually(holds: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """A real server's garbage collector takes its time."""
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def refused(request: Callable[[], object]) -> int:
    """The status with which the server refuses the request."""
    with pytest.raises(ApiException) as caught:
        request()
    return int(caught.value.status)


def a_workload(namespace: str, uid: str) -> Manifest:
    """What Kueue keeps for the child with this uid."""
    template = {"spec": {"containers": [{"name": "stage", "image": "stages:1"}]}}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {
            "name": f"of-{uid}",
            "namespace": namespace,
            "labels": {"kueue.x-k8s.io/job-uid": uid},
        },
        "spec": {"podSets": [{"name": "main", "count": 1, "template": template}]},
    }


def an_event(namespace: str, name: str, *, uid: str, kind: str) -> Manifest:
    """What somebody has to say about the pod with this uid."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "pod", "uid": uid},
        "type": kind,
        "reason": "Said",
        "message": "it is so",
    }
