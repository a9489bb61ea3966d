"""What is watched, and which news puts a job into the queue.

kopf is informer and life cycle: its handlers only add keys to the queue, so it leaves no finalizer
and no annotation on anybody's objects, and is told to keep no notes of its own about them either.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import kopf

from tunesmith_api.base import GROUP, VERSION
from tunesmith_operator.controller.child_cache import Children
from tunesmith_operator.controller.metrics import Measures
from tunesmith_operator.controller.object_cache import Jobs, has_ended
from tunesmith_operator.controller.work_queue import Key, WorkQueue
from tunesmith_operator.finetunejob.child_names import (
    LABEL_JOB,
    MANAGED_BY,
    MANAGER,
    SELECTOR,
    Child,
)
from tunesmith_operator.kube.client import Manifest
from tunesmith_operator.kube.ray_job import is_over

CHILDREN: Final = ("jobs", "pods", "configmaps")
RAYJOBS: Final = "rayjobs"
_KINDS: Final = {"jobs": "Job", "pods": "Pod", "configmaps": "ConfigMap", RAYJOBS: "RayJob"}
_GROUPS: Final = {"jobs": "batch/v1", RAYJOBS: "ray.io/v1"}

# Seconds for which news of a child that has not ended is gathered: each comes in a burst. In a line
# of so many jobs, for twice as long.
GATHER_S: Final = 1.0
MAX_GATHER_S: Final = 15.0
_SHORT_LINE: Final = 32

# How many objects are listed at once, and for how many seconds kopf keeps one that was handed on:
# of thousands at once, and for longer, Python never gives most of their memory back.
CHUNK_SIZE: Final = 500
IDLE_S: Final = 0.5


class News:
    """Notes what is told of jobs and their children, and decides what of it is worth a look."""

    def __init__(
        self, queue: WorkQueue, measures: Measures, *, jobs: Jobs, children: Children
    ) -> None:
        self._queue = queue
        self._measures = measures
        self._jobs = jobs
        self._children = children
        self._seen: dict[Key, tuple[str, int, bool]] = {}
        self._running: dict[Key, set[Child]] = {}
        self._over: set[Key] = set()

    def running(self, key: Key) -> frozenset[Child]:
        """The Jobs and RayJobs of a job that were told of, and not of their end."""
        return frozenset(self._running.get(key, ()))

    def of_job(self, key: Key, found: Manifest, *, type_: str | None) -> None:
        """Note a job. The operator's own writes to its status are no news."""
        if type_ == "DELETED":
            self._seen.pop(key, None)
            self._running.pop(key, None)
            self._over.discard(key)
            self._jobs.forget(key)
            self._children.forget(key)
            return
        self._jobs.note(key, found, is_born=type_ == "ADDED")
        self._note_end(key, ended=has_ended(found))
        meta = found["metadata"]
        state = (meta["uid"], meta.get("generation", 0), "deletionTimestamp" in meta)
        if type_ == "MODIFIED" and self._seen.get(key) == state and "status" in found:
            return
        self._seen[key] = state
        is_listed_again = type_ is None and "status" in found
        self._add(key, is_urgent=not is_listed_again)

    def _note_end(self, key: Key, *, ended: bool) -> None:
        if ended:
            self._over.add(key)
            self._children.forget(key)
        else:
            self._over.discard(key)

    def of_child(self, key: Key, kind: str, found: Manifest, *, type_: str | None) -> None:
        """Note a child. One that is over is looked at at once, others after the burst."""
        ended = type_ == "DELETED" or is_over(found)
        if key not in self._over:
            self._children.note(key, kind, found, is_gone=type_ == "DELETED")
        if kind in _ATTEMPTS:
            self._note((kind, found["metadata"]["name"]), key, ended=ended)
        self._add(key, after_s=0.0 if ended else self._gather_s(), is_urgent=ended)

    def _note(self, child: Child, key: Key, *, ended: bool) -> None:
        if not ended:
            self._running.setdefault(key, set()).add(child)
            return
        left = self._running.pop(key, set()) - {child}
        if left:
            self._running[key] = left

    def _gather_s(self) -> float:
        """Seconds for which news is gathered: the more jobs are in the line, the longer."""
        return min(MAX_GATHER_S, GATHER_S * (1 + len(self._queue) / _SHORT_LINE))

    def _add(self, key: Key, *, is_urgent: bool, after_s: float = 0.0) -> None:
        self._measures.adds.labels(name=self._measures.controller).inc()
        self._queue.add(key, after_s=after_s, is_urgent=is_urgent)


_ATTEMPTS: Final = frozenset({"Job", "RayJob"})


def registry_of(news: News, children: Iterable[str]) -> kopf.OperatorRegistry:
    """The handlers of everything that is watched; `children` are named by their plurals."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)

    async def job_changed(*, namespace: str | None, name: str, event: Any, **_: Any) -> None:
        news.of_job((namespace or "", name), event["object"], type_=event["type"])

    async def child_changed(
        *,
        resource: kopf.Resource,
        namespace: str | None,
        labels: Mapping[str, str],
        event: Any,
        **_: Any,
    ) -> None:
        key = (namespace or "", labels[LABEL_JOB])
        news.of_child(key, _KINDS[resource.plural], event["object"], type_=event["type"])

    kopf.on.event(GROUP, VERSION, "finetunejobs", registry=registry)(job_changed)
    ours: dict[str, Any] = {MANAGED_BY: MANAGER, LABEL_JOB: kopf.PRESENT}
    for plural in children:
        group = _GROUPS.get(plural, "v1")
        kopf.on.event(group, plural, labels=ours, registry=registry)(child_changed)
    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """kopf's settings for an operator that writes nothing by it."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = CHUNK_SIZE
    settings.queueing.idle_timeout = IDLE_S
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    for each in (*CHILDREN, RAYJOBS):
        settings.watching.label_selectors[each] = SELECTOR
    return settings


class _NoDiffBase(kopf.DiffBaseStorage):
    """No notes on what an object was: kopf's own copies every object several times a change."""

    def build(
        self,
        *,
        body: kopf.Body,  # noqa: ARG002 - as kopf calls it
        extra_fields: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


class _NoProgress(kopf.StatusProgressStorage):
    """No notes on how far handlers are."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _login(**settings: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**settings) or kopf.login_with_kubeconfig(**settings)
