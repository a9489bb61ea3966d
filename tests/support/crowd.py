"""Many jobs at once, each in a namespace of its own, so that a request tells whose it is.

Plays the pods of all of them, and says how each has ended in words that two jobs share.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from births import NOT_RAYS, Birth, Births
from clock import now_text
from cluster import Cluster
from operator_process import a_job
from ray_crowd import RayCrowd
from stage_pods import request_of, succeeded
from tunesmith_api.finetunejob.job import RETRY_ANNOTATION
from tunesmith_operator.finetunejob.child_names import LABEL_JOB, LABEL_STAGE
from tunesmith_operator.kube.objects import SELECTOR
from tunesmith_operator.settings import LEASE_NAME

JOB: Final = "helpdesk"
LOST_STAGE: Final = "evaluate"
_MERGE: Final = {"Content-Type": "application/merge-patch+json"}
_OVER: Final = {"Succeeded", "Failed"}
_STILL_S: Final = 3
_OWN: Final = re.compile(r"(Time|[sS]econds|Digest|observedGeneration)$")


class Crowd:
    """The jobs of a test, by namespace; `home` holds none, but the operator's Lease.

    All have the fields of `spec`.
    """

    def __init__(self, http: httpx.Client, **spec: Any) -> None:
        self._http = http
        self._spec = spec
        self._rays = RayCrowd(http)
        self.home = f"t-{uuid.uuid4().hex[:8]}"
        self.namespaces: list[str] = []
        # Attempts such as train-1 that end with a verdict, in every job.
        self.refused: frozenset[str] = frozenset()
        # Whose pod of LOST_STAGE loses its node, and whose has.
        self.losing_node: set[str] = set()
        self.lost_node: set[str] = set()
        self._make_namespace(self.home)

    def add(self, **spec: Any) -> str:
        """A namespace with a job in it."""
        name = self.room()
        self.create(name, **spec)
        return name

    def room(self) -> str:
        """A namespace for a job."""
        name = f"{self.home}-{len(self.namespaces)}"
        self._make_namespace(name)
        self.namespaces.append(name)
        return name

    @contextmanager
    def place_beside(self, name: str) -> Iterator[str]:
        """A namespace for something else, which the operator sees, too."""
        namespace = f"{self.home}-{name}"
        self._make_namespace(namespace)
        try:
            yield namespace
        finally:
            self._http.delete(f"/api/v1/namespaces/{namespace}")

    def create(self, namespace: str, **spec: Any) -> None:
        """Create the namespace's job."""
        self.of(namespace).create(a_job(JOB, **self._spec, **spec)).raise_for_status()

    def delete(self, namespace: str, how: str) -> None:
        """Delete the namespace's job, as `kubectl delete --cascade` does, until it is gone."""
        url = f"{self.of(namespace).path('FineTuneJob')}/{JOB}"
        self._http.delete(url, params={"propagationPolicy": how}).raise_for_status()
        wait_until(lambda: self._http.get(url).status_code == httpx.codes.NOT_FOUND)

    def of(self, namespace: str) -> Cluster:
        """A client of one namespace."""
        return Cluster(self._http, namespace)

    def forget_leader(self) -> None:
        """Take the Lease from an operator that is dead, so that the next need not wait for it."""
        lease = f"namespaces/{self.home}/leases/{LEASE_NAME}"
        self._http.delete(f"/apis/coordination.k8s.io/v1/{lease}")

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Every job that is there."""
        path = "/apis/tunesmith.dev/v1alpha1/finetunejobs"
        found = self._http.get(path).raise_for_status().json()["items"]
        wanted = set(self.namespaces)
        places = ((each["metadata"]["namespace"], each) for each in found)
        return {namespace: each for namespace, each in places if namespace in wanted}

    def play(self, until: Callable[[], bool], *, timeout_s: float = 300) -> None:
        """Let every pod succeed that is not refused, until `until` holds."""
        give_up = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < give_up, self.unfinished()
            self._play_once()
            time.sleep(0.1)

    def are_over(self) -> bool:
        """Whether each job that is there has ended."""
        return set(self.phases().values()) <= _OVER

    def unfinished(self) -> dict[str, Any]:
        """The conditions of the jobs that have not ended."""
        jobs = self.jobs().items()
        found = {name: each.get("status", {}) for name, each in jobs}
        return {name: each for name, each in found.items() if each.get("phase") not in _OVER}

    def phases(self) -> dict[str, str]:
        """How far each job is."""
        jobs = self.jobs().items()
        return {name: each.get("status", {}).get("phase", "") for name, each in jobs}

    def suspend(self, namespace: str, *, is_on: bool) -> None:
        """Suspend the namespace's job, or let it go on."""
        change = {"spec": {"suspend": is_on}}
        self.of(namespace).merge("FineTuneJob", JOB, change).raise_for_status()

    def ask_for_retry(self, namespace: str, value: str) -> None:
        """Have the namespace's job taken up again."""
        change = {"metadata": {"annotations": {RETRY_ANNOTATION: value}}}
        self.of(namespace).merge("FineTuneJob", JOB, change).raise_for_status()

    def children(self, namespace: str, plural: str) -> list[dict[str, Any]]:
        """The objects of one kind that were made for the namespace's job."""
        prefix = "/apis/batch/v1" if plural == "jobs" else "/api/v1"
        query = {"labelSelector": LABEL_JOB}
        answer = self._http.get(f"{prefix}/namespaces/{namespace}/{plural}", params=query)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found

    def hold(self, claim: dict[str, Any], *, is_held: bool) -> None:
        """Put a finalizer on a claim, or take it away."""
        known = claim["metadata"]
        change = {"metadata": {"finalizers": ["tests.tunesmith.dev/held"] if is_held else None}}
        self._merge(f"{known['namespace']}/persistentvolumeclaims/{known['name']}", change)

    def wait_for_nothing(self, namespaces: Iterable[str], births: Births) -> list[Birth]:
        """What of these namespaces' jobs does not go, or comes again, though it is waited for.

        A write that was under way as its job was deleted makes a child of a job that is gone, which
        the collector then takes: so that nothing is there counts once it has lasted.
        """
        wanted = set(namespaces)
        left: list[Birth] = []
        still_since = time.monotonic()
        # The garbage collector stands still while it learns of definitions that came or went.
        give_up = still_since + 540
        while time.monotonic() < give_up:
            if found := [each for each in births.alive(wanted) if each.job]:
                left, still_since = found, time.monotonic()
            elif time.monotonic() > still_since + _STILL_S:
                return []
            time.sleep(0.1)
        return left

    def _make_namespace(self, name: str) -> None:
        body = {"metadata": {"name": name}}
        self._http.post("/api/v1/namespaces", json=body).raise_for_status()

    def _play_once(self) -> None:
        self._rays.play_once(self.namespaces, self._report)
        query = {"labelSelector": f"{SELECTOR},{NOT_RAYS}", "fieldSelector": "status.phase=Pending"}
        found = self._http.get("/api/v1/pods", params=query).raise_for_status().json()["items"]
        for pod in found:
            known = pod["metadata"]
            if known["namespace"] in self.namespaces and "deletionTimestamp" not in known:
                self._end(pod)

    def _end(self, pod: dict[str, Any]) -> None:
        """Report and end, as the stage and its kubelet would; a job that is deleted lets be."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        is_lost = (
            namespace in self.losing_node and pod["metadata"]["labels"][LABEL_STAGE] == LOST_STAGE
        )
        try:
            if is_lost:
                self._lose(f"{namespace}/pods/{name}")
                self.losing_node.remove(namespace)
                self.lost_node.add(namespace)
                return
            outcome = self._report(pod)
            self._merge(f"{namespace}/pods/{name}/status", {"status": _ended(outcome)})
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise

    def _lose(self, path: str) -> None:
        """Take the pod away as the API server's garbage collector does once its node is gone."""
        taken = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
        taken |= {"message": "PodGC: node no longer exists", "lastTransitionTime": now_text()}
        self._merge(f"{path}/status", {"status": {"phase": "Failed", "conditions": [taken]}})
        self._http.delete(f"/api/v1/namespaces/{path}", params={"gracePeriodSeconds": "0"})

    def _report(self, pod: dict[str, Any]) -> str:
        namespace = pod["metadata"]["namespace"]
        request = request_of(self.of(namespace), pod)
        report, key = request.result.rsplit("/", 2)[1:]
        result = succeeded(request)
        if f"{request.stage}-{request.attempt}" in self.refused:
            verdict = {"outcome": "Failed", "reason": "ResourcesUnavailable", "bad_input": True}
            result = result.model_copy(update=verdict)
        text = result.model_dump_json(by_alias=True)
        self._merge(f"{namespace}/configmaps/{report}", {"data": {key: text}})
        return result.outcome

    def _merge(self, path: str, change: dict[str, Any]) -> None:
        url = f"/api/v1/namespaces/{path}"
        self._http.patch(url, content=json.dumps(change), headers=_MERGE).raise_for_status()


@contextmanager
def a_crowd(http: httpx.Client, **spec: Any) -> Iterator[Crowd]:
    """No jobs yet; what is added has this spec, and is deleted at the end."""
    crowd = Crowd(http, **spec)
    try:
        yield crowd
    finally:
        for each in (crowd.home, *crowd.namespaces):
            http.delete(f"/api/v1/namespaces/{each}")


def picture(job: dict[str, Any], born: Iterable[Birth]) -> dict[str, Any]:
    """How a job has ended, without what no two jobs share: times, and digests of its uid."""
    namespace = job["metadata"]["namespace"]
    names = sorted(f"{each.kind}/{each.name}" for each in born if each.namespace == namespace)
    text = json.dumps({"status": _shared(job["status"]), "children": names})
    keys = (each["key"][:5] for each in job["status"]["stages"])
    own = "|".join([*keys, namespace, job["metadata"]["uid"][:5]])
    found: dict[str, Any] = json.loads(re.sub(rf"({own})[0-9a-f-]*", "…", text))
    return found


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Wait until it holds."""
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def _shared(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _shared(each) for key, each in found.items() if not _OWN.search(key)}
    return [_shared(each) for each in found] if isinstance(found, list) else found


def _ended(outcome: str) -> dict[str, Any]:
    state = {"name": "stage", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    code = 0 if outcome == "Succeeded" else 2
    ended = {**state, "state": {"terminated": {"exitCode": code}}}
    return {"phase": outcome, "containerStatuses": [ended]}
