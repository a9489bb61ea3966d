"""The requests that the operator makes for a job, made without it: what the API server alone takes.

The operator brings up one job. What it wrote is then written for every other job, with that one's
name and uid, by a client that decides nothing and reads nothing. No operator that writes as much is
faster.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import control_plane
import tunesmith_cluster
from control_plane import Manifest, kubectl

from tunesmith_operator.finetunejob.child_names import STAGES_ACCOUNT

_NAME = "recorded"
_AT_ONCE = 16
_TIMEOUT_S = 120
_MERGE = {"Content-Type": "application/merge-patch+json"}
_SERVERS_OWN = {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"}
_KINDS = ("configmap", "job.batch", "event")
_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Event": "/api/v1/namespaces/{namespace}/events",
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
}
_ACCOUNTS = "/api/v1/namespaces/{namespace}/serviceaccounts"
_CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Recording:
    """What the operator wrote for one job: its status, and the objects that it created."""

    namespace: str
    uid: str
    status: str
    created: tuple[tuple[str, str], ...]

    def of(self, text: str, job: Manifest) -> str:
        """The same for another job."""
        known = job["metadata"]
        there = text.replace(self.namespace, known["namespace"]).replace(self.uid, known["uid"])
        return there.replace(_NAME, known["name"])


def record(claim: Callable[[str], Manifest], home: Path) -> Recording:
    """Let the operator bring up one job in a namespace of its own, and note what it wrote.

    Raises:
        TimeoutError: it starts nothing.
    """
    namespace = f"record-{uuid4().hex[:6]}"
    with (
        control_plane.a_namespace(namespace),
        tunesmith_cluster.an_operator(namespace, home),
    ):
        job = tunesmith_cluster.a_job(_NAME)
        job["metadata"]["namespace"] = namespace
        control_plane.apply(claim(namespace), job)
        _wait_for_child(namespace)
        return _recording(namespace)


def _wait_for_child(namespace: str) -> None:
    give_up = time.monotonic() + _TIMEOUT_S
    while not _found(namespace, "job.batch"):
        if time.monotonic() > give_up:
            raise TimeoutError(f"the operator has started nothing in {_TIMEOUT_S} s")
        time.sleep(1)
    time.sleep(2)  # for the Event, and for a second status if there is one


def _recording(namespace: str) -> Recording:
    (job,) = _found(namespace, "finetunejob")
    ours = [
        each
        for kind in _KINDS
        for each in _found(namespace, kind)
        if _is_of(each, uid=job["metadata"]["uid"])
    ]
    return Recording(
        namespace=namespace,
        uid=job["metadata"]["uid"],
        status=json.dumps({"status": job["status"]}),
        created=tuple((_PATHS[each["kind"]], json.dumps(_as_sent(each))) for each in ours),
    )


def _found(namespace: str, kind: str) -> list[Manifest]:
    items: list[Manifest] = json.loads(
        kubectl("get", kind, f"--namespace={namespace}", "--output=json")
    )["items"]
    return items


def _is_of(found: Manifest, *, uid: str) -> bool:
    owners = found["metadata"].get("ownerReferences") or [found.get("involvedObject") or {}]
    return any(each.get("uid") == uid for each in owners)


def _as_sent(found: Manifest) -> Manifest:
    """The object without what the server and its controllers have added."""
    known = {key: each for key, each in found["metadata"].items() if key not in _SERVERS_OWN}
    sent = {**found, "metadata": known}
    sent.pop("status", None)
    if found["kind"] == "Job":
        spec = {key: each for key, each in found["spec"].items() if key != "selector"}
        sent["spec"] = spec
        for part in (sent["metadata"], spec["template"]["metadata"]):
            part["labels"] = {
                key: each for key, each in part["labels"].items() if "-uid" not in key
            }
    return sent


async def repeat(
    session: aiohttp.ClientSession, jobs: list[Manifest], *, recording: Recording
) -> None:
    """Write for each of these jobs what was written for the recorded one, sixteen at a time."""
    await _make_account(session, jobs[0]["metadata"]["namespace"])
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(job: Manifest) -> None:
        known = job["metadata"]
        path = tunesmith_cluster.JOBS.format(namespace=known["namespace"])
        status = recording.of(recording.status, job)
        async with gate:
            await _send(session, "PATCH", f"{path}/{known['name']}/status", status, headers=_MERGE)
            for path, text in recording.created:
                place = path.format(namespace=known["namespace"])
                await _send(session, "POST", place, recording.of(text, job))

    await asyncio.gather(*map(one, jobs))


async def _make_account(session: aiohttp.ClientSession, namespace: str) -> None:
    """What a namespace has once: the identity of its stages, without which it gets no pods."""
    path = _ACCOUNTS.format(namespace=namespace)
    account = {"metadata": {"name": STAGES_ACCOUNT}}
    async with session.post(path, json=account) as answer:
        if answer.status != _CONFLICT:
            answer.raise_for_status()


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    text: str,
    *,
    headers: dict[str, str] | None = None,
) -> None:
    known = headers or {"Content-Type": "application/json"}
    async with session.request(method, path, data=text, headers=known) as answer:
        answer.raise_for_status()
