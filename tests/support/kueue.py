"""Plays Kueue: what release 0.20 was seen to write for Jobs and RayJobs, and in which order.

No controller of Kueue runs in tests, only its definitions. `SEEN` holds the conditions that the
real one gave a Workload in each situation, `Kueue` writes them and treats the Job as it did.
"""

import json
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import pytest

from clock import now_text
from cluster import Cluster, kubectl

PLURALS: Final = {"Job": "jobs", "RayJob": "rayjobs"}
_GROUPS: Final = {"jobs": "batch/v1", "rayjobs": "ray.io/v1"}
FLAVOR = {
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
MANAGER = "kueue"
_NONE = "False/NoReservation/The workload has no reservation"

# Status, reason and message of every condition, by what has happened to the Job.
SEEN: dict[str, dict[str, str]] = {
    "waits-for-quota": {
        "QuotaReserved": "False/WaitingForQuota/couldn't assign flavors to pod set main: "
        "insufficient unused quota for nvidia.com/gpu in flavor gpu, 1 more needed",
        "Admitted": _NONE,
    },
    "admitted": {
        "QuotaReserved": "True/QuotaReserved/Quota reserved in ClusterQueue team-a",
        "Admitted": "True/Admitted/The workload is admitted",
        "Evicted": "False/QuotaReserved/Previously: Preempted",
    },
    "preempted": {
        "QuotaReserved": "False/WaitingForQuota/couldn't assign flavors to pod set main: "
        "insufficient unused quota for nvidia.com/gpu in flavor gpu, 1 more needed",
        "Admitted": _NONE,
        "Evicted": "True/Preempted/Preempted to accommodate a workload (UID: 1, JobUID: 2) "
        "due to prioritization in the ClusterQueue",
        "Preempted": "True/InClusterQueue/Preempted to accommodate a workload (UID: 1, JobUID: 2)",
        "Requeued": "True/Preempted/Preempted",
    },
    "no-such-queue": {
        "QuotaReserved": "False/Misconfigured/LocalQueue team-a doesn't exist",
        "Admitted": _NONE,
    },
    "too-big": {
        "QuotaReserved": "False/ExceedsMaxQuota/couldn't assign flavors to pod set main: "
        "insufficient quota for nvidia.com/gpu in flavor gpu, request > maximum capacity (9 > 8)",
        "Admitted": _NONE,
    },
    "deactivated": {
        "QuotaReserved": "False/Deactivated/The workload is deactivated",
        "Admitted": _NONE,
        "Evicted": "True/Deactivated/The workload is deactivated",
        "Requeued": "False/Deactivated/The workload is deactivated",
    },
}


def conditions_of(
    situation: str, *, at: str, before: Iterable[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The conditions of a Workload that came into one of the situations `at` this time.

    One whose status stays as it was `before` keeps its time.
    """
    known = {each["type"]: each for each in before}
    for type_, text in SEEN[situation].items():
        status, reason, message = text.split("/", 2)
        old = known.get(type_, {})
        since = old["lastTransitionTime"] if old.get("status") == status else at
        known[type_] = {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
            "observedGeneration": 1,
        }
    return list(known.values())


def workload_of(child: dict[str, Any], situation: str | None = None, *, at: str) -> dict[str, Any]:
    """The Workload of a Job or RayJob; it has no status before Kueue has looked at it."""
    known = child["metadata"]
    reference = {
        "apiVersion": child["apiVersion"],
        "kind": child["kind"],
        "name": known["name"],
        "uid": known["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {
            "name": _workload_name(child),
            "labels": {"kueue.x-k8s.io/job-uid": known["uid"]},
            "ownerReferences": [reference],
            "creationTimestamp": at,
        },
        "spec": {
            "active": True,
            "queueName": known["labels"]["kueue.x-k8s.io/queue-name"],
            "podSets": _pod_sets(child),
        },
        **({"status": {"conditions": conditions_of(situation, at=at)}} if situation else {}),
    }


def _workload_name(child: dict[str, Any]) -> str:
    return f"{child['kind'].lower()}-{child['metadata']['name']}"


def _pod_sets(child: dict[str, Any]) -> list[dict[str, Any]]:
    if child["kind"] == "Job":
        return [{"name": "main", "count": 1, "template": child["spec"]["template"]}]
    ray = child["spec"]["rayClusterSpec"]
    (group,) = ray["workerGroupSpecs"]
    return [
        {"name": "head", "count": 1, "template": ray["headGroupSpec"]["template"]},
        {"name": "workers", "count": group["replicas"], "template": group["template"]},
    ]


def _spec_with(child: dict[str, Any], flavor: dict[str, Any], *, suspend: bool) -> dict[str, Any]:
    """A change of the spec that puts a flavor's fields into every pod's template."""
    if child["kind"] == "Job":
        return {"suspend": suspend, "template": {"spec": flavor}}
    ray = deepcopy(child["spec"]["rayClusterSpec"])
    for each in (ray["headGroupSpec"], *ray["workerGroupSpecs"]):
        each["template"]["spec"] |= flavor
    return {"suspend": suspend, "rayClusterSpec": ray}


def needs_kueue() -> None:
    """Skip the test where Kueue's definitions are not installed."""
    if "kueue.x-k8s.io/v1beta2" not in kubectl("api-versions").splitlines():
        pytest.skip("no definitions of Kueue: start the control plane with --crds kueue")


@dataclass(frozen=True, slots=True)
class Kueue:
    """Kueue, for the Jobs or the RayJobs of one namespace."""

    cluster: Cluster
    kind: str = "Job"

    def next_job(self, *, timeout_s: float = 40) -> str:
        """The Job that has not been taken up yet, once there is one."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            names = self._names(PLURALS[self.kind])
            known = self._names("workloads")
            new = [each for each in names if f"{self.kind.lower()}-{each}" not in known]
            if new:
                return new[-1]
            time.sleep(0.1)
        raise AssertionError("no Job came")

    def take_up(self, job: str) -> None:
        """Make the Workload of a Job."""
        workload = workload_of(self.job(job), at=now_text())
        self._send("POST", self._path("workloads"), workload)

    def say(self, job: str, situation: str) -> None:
        """Write into the Workload what has happened to the Job."""
        path = self._path("workloads", _workload_name(self.job(job)))
        before = self._send("GET", path).get("status", {}).get("conditions", [])
        conditions = conditions_of(situation, at=now_text(), before=before)
        self._send("PATCH", f"{path}/status", {"status": {"conditions": conditions}})

    def admit(self, job: str) -> None:
        """Let the Job go, with the flavor's nodes in its template."""
        self.say(job, "admitted")
        self._change(job, _spec_with(self.job(job), FLAVOR, suspend=False))

    def preempt(self, job: str) -> None:
        """Suspend the Job, and take the flavor's nodes out of its template."""
        self.say(job, "preempted")
        none = dict.fromkeys(FLAVOR)
        if self.kind == "Job":
            self._change(job, {"suspend": True})
            status = {"status": {"startTime": None}}
            self._send("PATCH", f"{self._path(PLURALS[self.kind], job)}/status", status)
        self._change(job, _spec_with(self.job(job), none, suspend=True))

    def job(self, name: str) -> dict[str, Any]:
        """The Job as it is stored."""
        return self._send("GET", self._path(PLURALS[self.kind], name))

    def _names(self, plural: str) -> list[str]:
        return [each["metadata"]["name"] for each in self._send("GET", self._path(plural))["items"]]

    def _change(self, job: str, spec: dict[str, Any]) -> None:
        self._send("PATCH", self._path(PLURALS[self.kind], job), {"spec": spec})

    def _path(self, plural: str, name: str = "") -> str:
        group = _GROUPS.get(plural, "kueue.x-k8s.io/v1beta2")
        return f"/apis/{group}/namespaces/{self.cluster.namespace}/{plural}/{name}".rstrip("/")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        kind = "merge-patch+json" if method == "PATCH" else "json"
        answer = self.cluster.http.request(
            method,
            path,
            params={"fieldManager": MANAGER} if body else {},
            content=json.dumps(body) if body else None,
            headers={"Content-Type": f"application/{kind}"},
        )
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found
