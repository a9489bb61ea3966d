"""What was last told of the children of jobs, for as long as they run.

A look at a job whose children all run needs no more, and costs the API server nothing. What is
missing here, or over, is read from the server: a watch tells late that a child is gone, and a stage
reports before its Job ends. Now and then everything is read anew, for what watches have missed.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.child_names import (
    LABEL_ATTEMPT,
    LABEL_JOB_NAME,
    Child,
    family_name,
)
from tunesmith_operator.kube.client import Cluster, Manifest
from tunesmith_operator.kube.pods import has_condition, is_owned
from tunesmith_operator.kube.ray_job import has_failed, has_succeeded

# Seconds; less than those after which a job is looked at although nothing was heard of it.
FRESH_S: Final = 200.0
_MAIN: Final = ("Job", "RayJob")
_LARGE_METADATA: Final = {"managedFields", "annotations"}
_LARGE_SPEC: Final = {
    "containers",
    "initContainers",
    "rayClusterSpec",
    "submitterPodTemplate",
    "template",
}


class Reader(Protocol):
    """Where the children of a job are read."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object, None if there is none."""

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        """The objects with this label."""

    def finish(self) -> None:
        """Everything was read."""


@dataclass(slots=True)
class _Family:
    objects: dict[Child, Manifest] = field(default_factory=dict)
    read_at: float = field(default_factory=time.monotonic)
    num_news: int = 0


class Children:
    """The children of all jobs that were told of and run."""

    def __init__(self) -> None:
        self._families: dict[Key, _Family] = {}

    def note(self, key: Key, kind: str, found: Manifest, *, is_gone: bool) -> None:
        """Note news of a child."""
        is_kept = kind != "ConfigMap" or found["metadata"]["name"] == family_name(key[1])
        if is_gone or _is_over(kind, found):
            self._drop(key, kind, found["metadata"]["name"])
        elif is_kept:
            family = self._families.setdefault(key, _Family())
            family.num_news += 1
            family.objects[kind, found["metadata"]["name"]] = _slim(found)

    def _drop(self, key: Key, kind: str, name: str) -> None:
        family = self._families.get(key)
        if family is not None:
            family.num_news += 1
            _drop(family.objects, kind, name)
            if not family.objects:
                self.forget(key)

    def forget(self, key: Key) -> None:
        """Note that what was told counts no more: the job is over or gone, or was stopped."""
        self._families.pop(key, None)

    def reader(
        self, cluster: Cluster, key: Key, *, uid: str, attempts: Sequence[Iterable[Child]]
    ) -> Reader:
        """Where to read the children of a job with these attempts, each under one of its names."""
        family = self._families.get(key, _Family())
        age_s = time.monotonic() - family.read_at
        report = family.objects.get(("ConfigMap", family_name(key[1])))
        run = [any(name in family.objects for name in names) for names in attempts]
        is_told = run and all(run) and report is not None and is_owned(report, by_uid=uid)
        return _Told(family.objects) if is_told and age_s < FRESH_S else _Asked(cluster, family)


class _Told:
    """What was told of one family."""

    def __init__(self, objects: dict[Child, Manifest]) -> None:
        self._objects = objects

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:  # noqa: ARG002
        return self._objects.get((kind, name))

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:  # noqa: ARG002
        label, _, value = labels.partition("=")
        return [
            each
            for (found, _), each in self._objects.items()
            if found == kind and _label(each, label) == value
        ]

    def finish(self) -> None:
        """Nothing new is known."""


class _Asked:
    """The API server; what it said is as good as told, if nothing was told meanwhile."""

    def __init__(self, cluster: Cluster, family: _Family) -> None:
        self._cluster = cluster
        self._family = family
        self._num_news = family.num_news
        self._asked_at = time.monotonic()
        self._seen: dict[Child, Manifest] = {}

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        found = await self._cluster.get(kind, namespace, name)
        if found is not None and not _is_over(kind, found):
            self._seen[kind, name] = found
        return found

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        found = await self._cluster.list(kind, namespace, labels=labels)
        self._seen |= {(kind, each["metadata"]["name"]): each for each in found}
        return found

    def finish(self) -> None:
        if self._family.num_news == self._num_news:
            self._family.objects = {name: _slim(each) for name, each in self._seen.items()}
            self._family.read_at = self._asked_at


def _is_over(kind: str, found: Manifest) -> bool:
    """Whether more is to be known of it than was told; pods are what their Job makes of them."""
    if kind == "Pod":
        return False
    if kind == "RayJob" and (has_succeeded(found) or has_failed(found)):
        return True
    is_ended = any(has_condition(found, each) for each in ("Complete", "Failed"))
    return is_ended or "deletionTimestamp" in found["metadata"]


def _drop(objects: dict[Child, Manifest], kind: str, name: str) -> None:
    objects.pop((kind, name), None)
    if kind in _MAIN:
        label = LABEL_ATTEMPT if kind == "RayJob" else LABEL_JOB_NAME
        pods = [each for each in objects if each[0] == "Pod"]
        for pod in pods:
            if _label(objects[pod], label) == name:
                del objects[pod]


def _label(found: Manifest, label: str) -> str | None:
    value: str | None = (found["metadata"].get("labels") or {}).get(label)
    return value


def _slim(found: Manifest) -> Manifest:
    """The object without what is long and of no use here: a thousand of them are kept."""
    slim = dict(found)
    slim["metadata"] = _without(found["metadata"], _LARGE_METADATA)
    if "spec" in found:
        slim["spec"] = _without(found["spec"], _LARGE_SPEC)
    return slim


def _without(found: Manifest, left_out: set[str]) -> Manifest:
    return {key: value for key, value in found.items() if key not in left_out}
