"""Plays Kueue: what release 0.20 was seen to write for batch Jobs, and in which order.

No controller of Kueue runs in tests, only its definitions. `SEEN` holds the conditions that the
real one gave a Workload in each situation, `Kueue` writes them and treats the Job as it did.
"""

import json
from dataclasses import dataclass
from typing import Any

from cluster import Cluster

NOW = "2026-11-26T00:00:00Z"
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


def conditions_of(situation: str) -> list[dict[str, Any]]:
    """The conditions of a Workload in one of the situations."""
    return [
        dict(zip(("status", "reason", "message"), text.split("/", 2), strict=True))
        | {"type": type_, "lastTransitionTime": NOW, "observedGeneration": 1}
        for type_, text in SEEN[situation].items()
    ]


def workload_of(child: dict[str, Any], situation: str | None = None) -> dict[str, Any]:
    """The Workload of a Job; it has no status before Kueue has looked at it."""
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
            "name": f"job-{known['name']}",
            "labels": {"kueue.x-k8s.io/job-uid": known["uid"]},
            "ownerReferences": [reference],
            "creationTimestamp": NOW,
        },
        "spec": {
            "active": True,
            "queueName": known["labels"]["kueue.x-k8s.io/queue-name"],
            "podSets": [{"name": "main", "count": 1, "template": child["spec"]["template"]}],
        },
        **({"status": {"conditions": conditions_of(situation)}} if situation else {}),
    }


@dataclass(frozen=True, slots=True)
class Kueue:
    """Kueue, for the Jobs of one namespace."""

    cluster: Cluster

    def take_up(self, job: str) -> None:
        """Make the Workload of a Job."""
        workload = workload_of(self.job(job))
        self._send("POST", self._path("workloads"), workload)

    def say(self, job: str, situation: str) -> None:
        """Write into the Workload what has happened to the Job."""
        path = f"{self._path('workloads', f'job-{job}')}/status"
        self._send("PATCH", path, {"status": {"conditions": conditions_of(situation)}})

    def admit(self, job: str) -> None:
        """Let the Job go, with the flavor's nodes in its template."""
        self.say(job, "admitted")
        template = {"spec": FLAVOR}
        change = {"spec": {"suspend": False, "template": template}}
        self._send("PATCH", self._path("jobs", job), change)

    def preempt(self, job: str) -> None:
        """Suspend the Job, and take the flavor's nodes out of its template."""
        self.say(job, "preempted")
        path = self._path("jobs", job)
        self._send("PATCH", path, {"spec": {"suspend": True}})
        self._send("PATCH", f"{path}/status", {"status": {"startTime": None}})
        template = {"spec": dict.fromkeys(FLAVOR)}
        self._send("PATCH", path, {"spec": {"template": template}})

    def job(self, name: str) -> dict[str, Any]:
        """The Job as it is stored."""
        return self._send("GET", self._path("jobs", name))

    def _path(self, plural: str, name: str = "") -> str:
        group = "batch/v1" if plural == "jobs" else "kueue.x-k8s.io/v1beta2"
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
