"""Plays KubeRay: what release 1.7 was seen to do with RayJobs in HTTPMode, step by step.

No controller of KubeRay runs in tests, only its definitions. `SEEN` holds what the real one wrote
into a RayJob's status and which pods there were, in each scenario; `KubeRay` writes the same, and
makes and takes away the RayCluster and the pods as it did. All times are those of the test.
"""

import json
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from clock import now_text
from cluster import Cluster, kubectl
from stage_pods import report_with, request_of, succeeded, token_of

FINALIZER = "ray.io/rayjob-finalizer"


@dataclass(frozen=True, slots=True)
class Step:
    """One change: `state` is jobDeploymentStatus and, behind a slash, jobStatus."""

    state: str
    pods: str
    reason: str = ""
    message: str = ""


_WAITING = Step("Initializing", "head:Pending worker:Pending")
_RUNNING = (
    _WAITING,
    Step("Initializing", "head:Running worker:Pending"),
    Step("Initializing", "head:Running worker:Running"),
    Step("Running", "head:Running worker:Running"),
    Step("Running/PENDING", "head:Running worker:Running", message="Job has not started yet."),
    Step("Running/RUNNING", "head:Running worker:Running", message="Job is currently running."),
)
_DONE = Step(
    "Complete/SUCCEEDED", "head:Running worker:Running", message="Job finished successfully."
)

SEEN: dict[str, tuple[Step, ...]] = {
    "running": _RUNNING,
    "done": (_DONE,),
    "fails": (
        Step(
            "Failed/FAILED",
            "head:Running worker:Running",
            reason="AppFailed",
            message="Job entrypoint command failed with exit code 3, last available logs "
            "(truncated to 20,000 chars):\nRuntime env is setting up.\n",
        ),
    ),
    "worker-lost": (
        Step("Running/RUNNING", "head:Running worker:Failed"),
        Step("Running/RUNNING", "head:Running worker:Pending"),
    ),
    "worker-back": (Step("Running/RUNNING", "head:Running worker:Running"),),
    "head-lost": (Step("Running/RUNNING", "head:Failed worker:Running"),),
    "head-back": (
        Step("Running/RUNNING", "head:Pending worker:Running"),
        Step("Running/RUNNING", "head:Running worker:Running"),
        Step("Running/PENDING", "head:Running worker:Running", message="Job has not started yet."),
        Step("Running/RUNNING", "head:Running worker:Running", message="Job is currently running."),
    ),
    "deadline": (
        Step(
            "Failed/RUNNING",
            "head:Running worker:Running",
            reason="DeadlineExceeded",
            message="The RayJob has passed the activeDeadlineSeconds. ActiveDeadlineSeconds: 30",
        ),
    ),
    "no-image": (_WAITING,),
    "suspended": (Step("Suspended", ""),),
    "refused": (
        Step(
            "ValidationFailed",
            "",
            reason="ValidationFailed",
            message="The RayJob metadata is invalid: RayJob name should be no more than 47 "
            "characters",
        ),
    ),
}


def needs_kuberay() -> None:
    """Skip the test where KubeRay's definitions are not installed."""
    if "ray.io/v1" not in kubectl("api-versions").splitlines():
        pytest.skip("no definitions of KubeRay: start the control plane with --crds ray")


@dataclass
class KubeRay:
    """KubeRay in one namespace; `node` is where the scheduler puts pods, if it finds one."""

    cluster: Cluster
    pods: dict[str, list[str]] = field(default_factory=lambda: {"head": [], "worker": []})
    raycluster: str = ""
    node: str = ""
    started: dict[str, str] = field(default_factory=dict)
    state: str = ""

    def rayjob(self, *, timeout_s: float = 40) -> dict[str, Any]:
        """The RayJob that has not been taken up yet, taken up."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            for found in self.rayjobs():
                if not found.get("status") and "deletionTimestamp" not in found["metadata"]:
                    self._merge("rayjobs", found, {"metadata": {"finalizers": [FINALIZER]}})
                    self.state = ""
                    return found
            time.sleep(0.1)
        raise AssertionError("no RayJob came")

    def rayjobs(self) -> list[dict[str, Any]]:
        """All RayJobs of the namespace."""
        found: list[dict[str, Any]] = self._ask("GET", self._path("rayjobs"))["items"]
        return found

    def play(self, rayjob: dict[str, Any], scenario: str) -> None:
        """Write every step of the scenario."""
        for step in SEEN[scenario]:
            if step.pods and not self.raycluster:
                self.raycluster = f"{rayjob['metadata']['name']}-{uuid.uuid4().hex[:5]}"
                self._set_status(rayjob, step)
                self._make_cluster(rayjob)
            self._set_pods(rayjob, step.pods)
            self._set_status(rayjob, step)

    def shut_down(self) -> None:
        """Take the cluster away, as after a job that is over or suspended."""
        if self.raycluster:
            self._ask("DELETE", self._path("rayclusters", self.raycluster),
                      {"propagationPolicy": "Background"})  # fmt: skip
        for pod in (*self.pods["head"], *self.pods["worker"]):
            self._delete_pod(pod)
        self.pods = {"head": [], "worker": []}
        self.raycluster = ""

    def finish(self, rayjob: dict[str, Any]) -> None:
        """The stage reports from its head, and the RayJob ends."""
        head = self.pod("head")
        request = request_of(self.cluster, head)
        text = succeeded(request).model_dump_json(by_alias=True)
        report_with(token_of(self.cluster, head), address=request.result, text=text)
        self.play(rayjob, "done")
        self.shut_down()

    def let_go(self, rayjob: dict[str, Any]) -> None:
        """Take the finalizer off a RayJob that is being deleted."""
        give_up = time.monotonic() + 30
        name = rayjob["metadata"]["name"]
        while time.monotonic() < give_up:
            found = next((e for e in self.rayjobs() if e["metadata"]["name"] == name), None)
            if found is None:
                return
            if "deletionTimestamp" in found["metadata"]:
                kept = [each for each in found["metadata"]["finalizers"] if each != FINALIZER]
                # The server takes none back that it has taken off itself in the meantime.
                with suppress(httpx.HTTPStatusError):
                    self._merge("rayjobs", found, {"metadata": {"finalizers": kept}})
                    return
            time.sleep(0.1)
        raise AssertionError(f"{name} is not deleted")

    def leave(self) -> None:
        """Hold nothing back any more: nobody takes finalizers off once the test is over."""
        for found in self.rayjobs():
            self._merge("rayjobs", found, {"metadata": {"finalizers": None}})

    def pod(self, kind: str) -> dict[str, Any]:
        """The newest pod of a kind."""
        return self._ask("GET", self._path("pods", self.pods[kind][-1]))

    def say(self, kind: str, **status: Any) -> None:
        """Write into the status of the newest pod of a kind."""
        self._write_pod(self.pods[kind][-1], status)

    def lose(self, kind: str) -> None:
        """Take the newest pod of a kind away, and put none in its place yet."""
        self._delete_pod(self.pods[kind].pop())

    def _set_pods(self, rayjob: dict[str, Any], wanted: str) -> None:
        (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        for each in wanted.split():
            kind, phase = each.split(":")
            count = 1 if kind == "head" else group["replicas"]
            self._replace_failed(kind)
            while len(self.pods[kind]) < count:
                self._make_pod(rayjob, kind)
            if phase == "Failed":
                self._fail_pod(self.pods[kind][-1])
            for name in self.pods[kind] if phase == "Running" else ():
                self._run_pod(name)
        if not wanted:
            self.shut_down()

    def _replace_failed(self, kind: str) -> None:
        for name in list(self.pods[kind]):
            found = self._ask("GET", self._path("pods", name))
            if found["status"].get("phase") == "Failed":
                self._delete_pod(name)
                self.pods[kind].remove(name)

    def _make_cluster(self, rayjob: dict[str, Any]) -> None:
        known = rayjob["metadata"]
        manifest = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {
                "name": self.raycluster,
                "labels": known["labels"],
                "ownerReferences": [_owner("RayJob", known)],
            },
            "spec": rayjob["spec"]["rayClusterSpec"],
        }
        self._ask("POST", self._path("rayclusters"), manifest)

    def _make_pod(self, rayjob: dict[str, Any], kind: str) -> None:
        spec = rayjob["spec"]["rayClusterSpec"]
        group = spec["headGroupSpec"] if kind == "head" else spec["workerGroupSpecs"][0]
        template = group["template"]
        owner = self._ask("GET", self._path("rayclusters", self.raycluster))["metadata"]
        labels = {"ray.io/cluster": self.raycluster, "ray.io/node-type": kind}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "labels": template["metadata"]["labels"] | labels,
                "generateName": f"{self.raycluster[:50]}-{kind}-",
                "ownerReferences": [_owner("RayCluster", owner)],
            },
            "spec": template["spec"] | ({"nodeName": self.node} if self.node else {}),
        }
        self.pods[kind].append(self._ask("POST", self._path("pods"), manifest)["metadata"]["name"])

    def _set_status(self, rayjob: dict[str, Any], step: Step) -> None:
        deployment, _, job = step.state.partition("/")
        status = {
            "jobDeploymentStatus": deployment,
            "jobStatus": job,
            "reason": step.reason,
            "message": step.message,
            "rayClusterName": self.raycluster,
            **self._times(deployment),
        }
        self._merge("rayjobs", rayjob, {"status": status}, subresource="status")

    def _times(self, deployment: str) -> dict[str, str]:
        """It starts whenever it goes on, and one that is made suspended at its creation, too."""
        before, self.state = self.state, deployment
        if deployment in {"Complete", "Failed"}:
            return {"endTime": now_text()}
        starts = {("", "Initializing"), ("", "Suspended"), ("Suspended", "Initializing")}
        return {"startTime": now_text()} if (before, deployment) in starts else {}

    def _run_pod(self, name: str) -> None:
        """Start its container, once."""
        if name not in self.started:
            self.started[name] = now_text()
            running = {"running": {"startedAt": self.started[name]}}
            self._write_pod(name, _pod_status("Running", running))

    def _fail_pod(self, name: str) -> None:
        ended = {"exitCode": 137, "reason": "Error", "finishedAt": now_text()}
        begun = {"startedAt": self.started[name]} if name in self.started else {}
        self._write_pod(name, _pod_status("Failed", {"terminated": ended | begun}))

    def _write_pod(self, name: str, status: dict[str, Any]) -> None:
        self._merge("pods", {"metadata": {"name": name}}, {"status": status}, subresource="status")

    def _delete_pod(self, name: str) -> None:
        path = self._path("pods", name)
        self.cluster.http.request("DELETE", path, json={"gracePeriodSeconds": 0})

    def _merge(
        self, plural: str, found: dict[str, Any], change: dict[str, Any], *, subresource: str = ""
    ) -> None:
        path = "/".join(filter(None, [self._path(plural, found["metadata"]["name"]), subresource]))
        self.cluster.http.patch(
            path,
            content=json.dumps(change),
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.cluster.http.request(method, path, json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _path(self, plural: str, name: str = "") -> str:
        prefix = "/api/v1" if plural == "pods" else "/apis/ray.io/v1"
        path = f"{prefix}/namespaces/{self.cluster.namespace}/{plural}"
        return f"{path}/{name}" if name else path


def _pod_status(phase: str, state: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "stage", "image": "x", "imageID": "x", "restartCount": 0}
    is_ready = phase == "Running"
    return {"phase": phase, "containerStatuses": [{**container, "ready": is_ready, "state": state}]}


def _owner(kind: str, known: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "ray.io/v1",
        "kind": kind,
        "name": known["name"],
        "uid": known["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
