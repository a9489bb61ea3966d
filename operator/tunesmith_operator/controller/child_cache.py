"""What was last told of the children of one controller's objects, for as long as they run.

A look at an object whose children all run needs no more, and costs the API server nothing. What is
missing here, or over, is read from the server: a watch tells late that a child is gone, and a stage
reports before its Job ends. Now and then everything is read anew, for what watches have missed.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from tunesmith_operator.controller.object_cache import FRESH_S
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import KubeClient, Reader
from tunesmith_operator.kube.objects import Manifest, is_deleting, label_of, owners_of
from tunesmith_operator.kube.resources import POD, Resource

_LARGE_METADATA: Final = frozenset({"managedFields", "annotations"})


class ChildRef(NamedTuple):
    """A child by kind and name, in the namespace of its parent."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ChildWatch:
    """A kind of children that is watched.

    `parent_label` is the label whose value is the parent's name. `is_over` says of kinds that come
    to an end whether one has: news of that is urgent, and until then the child is active. Pods bear
    the name of such a child as their `pod_label`. `is_kept` says of which children a copy is kept,
    and `unread_spec` what of their spec nobody reads. One that `is_optional` is served only where
    somebody has installed its definition.
    """

    resource: Resource
    parent_label: str
    is_over: Callable[[Manifest], bool] | None = None
    pod_label: str | None = None
    unread_spec: frozenset[str] = frozenset()
    is_kept: Callable[[Key, str], bool] = lambda _, __: True
    is_optional: bool = False


class CacheReader(Reader, Protocol):
    """Where the children of one object are read."""

    def finish(self) -> None:
        """Everything was read."""


@dataclass(slots=True)
class _Children:
    """The children of one object; `num_changes` tells whether something was told meanwhile."""

    manifests: dict[ChildRef, Manifest] = field(default_factory=dict)
    read_at: float = field(default_factory=time.monotonic)
    num_changes: int = 0


class ChildCache:
    """The children of all objects of a controller that were told of and run."""

    def __init__(self, watches: Sequence[ChildWatch] = ()) -> None:
        self.watches = tuple(watches)
        self._by_kind = {watch.resource.kind: watch for watch in self.watches}
        self._children: dict[Key, _Children] = {}
        self._active: dict[Key, set[ChildRef]] = {}

    def active(self, key: Key) -> frozenset[ChildRef]:
        """The children with an end that were told of, and not of their end.

        Kept apart from the copies: it also knows a child of which the object's status does not
        speak, whose start was late on its way to the server.
        """
        return frozenset(self._active.get(key, ()))

    def note(
        self, key: Key, kind: str, manifest: Manifest, *, is_gone: bool, has_copy: bool = True
    ) -> bool:
        """Note news of a child; return whether it has come to its end.

        Without `has_copy` only that is noted: the parent is over, and nobody reads the child.
        """
        watch, child = self._by_kind[kind], ChildRef(kind, manifest["metadata"]["name"])
        if has_copy:
            self._note_copy(key, child, manifest, is_gone=is_gone)
        if watch.is_over is None:
            return is_gone
        is_over = is_gone or watch.is_over(manifest)
        active = self._active.pop(key, set()) - {child} | (set() if is_over else {child})
        if active:
            self._active[key] = active
        return is_over

    def drop_copies(self, key: Key) -> None:
        """Note that what was told counts no more: the object is over, or a child was stopped."""
        self._children.pop(key, None)

    def forget(self, key: Key) -> None:
        """Note that the object is gone."""
        self._children.pop(key, None)
        self._active.pop(key, None)

    def reader(
        self,
        client: KubeClient,
        key: Key,
        *,
        uid: str,
        running: Sequence[Collection[ChildRef]],
        beside: ChildRef,
    ) -> CacheReader:
        """Where to read the children of the object with this uid.

        `running` are those that should run, each under one of its names, and `beside` is what has
        to be there with them. Only if all of them were told of is the cache read.
        """
        children = self._children.get(key, _Children())
        known = children.manifests.get(beside)
        # The parent's name alone may be that of a deleted one, whose children are still going.
        is_ours = known is not None and uid in owners_of(known)
        is_told = running and all(
            any(child in children.manifests for child in names) for names in running
        )
        if is_told and is_ours and time.monotonic() - children.read_at < FRESH_S:
            return _Told(children.manifests)
        return _Asked(client, children, self._by_kind)

    def _note_copy(self, key: Key, child: ChildRef, manifest: Manifest, *, is_gone: bool) -> None:
        watch = self._by_kind[child.kind]
        if is_gone or _is_past(watch, manifest):
            self._drop(key, child)
        elif watch.is_kept(key, child.name):
            children = self._children.setdefault(key, _Children())
            children.num_changes += 1
            children.manifests[child] = _slim(watch, manifest)

    def _drop(self, key: Key, child: ChildRef) -> None:
        children = self._children.get(key)
        if children is None:
            return
        children.num_changes += 1
        children.manifests.pop(child, None)
        label = self._by_kind[child.kind].pod_label
        if label is not None:
            # Its pods go with it, and the watch of pods may tell of that before or after.
            children.manifests = {
                other: manifest
                for other, manifest in children.manifests.items()
                if other.kind != POD.kind or label_of(manifest, label) != child.name
            }
        if not children.manifests:
            self.drop_copies(key)


class _Told:
    """What was told of the children of one object."""

    def __init__(self, manifests: dict[ChildRef, Manifest]) -> None:
        self._manifests = manifests

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:  # noqa: ARG002
        return self._manifests.get(ChildRef(kind, name))

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:  # noqa: ARG002
        label, _, value = labels.partition("=")
        return [
            manifest
            for child, manifest in self._manifests.items()
            if child.kind == kind and label_of(manifest, label) == value
        ]

    def finish(self) -> None:
        """Nothing new is known."""


class _Asked:
    """The API server; what it said is as good as told, if nothing was told meanwhile."""

    def __init__(
        self, client: KubeClient, children: _Children, watches: Mapping[str, ChildWatch]
    ) -> None:
        self._client = client
        self._children = children
        self._watches = watches
        self._num_changes = children.num_changes
        # From before the first answer: each of them is at least as new as that.
        self._asked_at = time.monotonic()
        self._seen: dict[ChildRef, Manifest] = {}

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        manifest = await self._client.get(kind, namespace, name)
        if manifest is not None and not _is_past(self._watches[kind], manifest):
            self._seen[ChildRef(kind, name)] = manifest
        return manifest

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        manifests = await self._client.list(kind, namespace, labels=labels)
        self._seen |= {ChildRef(kind, item["metadata"]["name"]): item for item in manifests}
        return manifests

    def finish(self) -> None:
        # News that came while the answers were on their way may be newer than they are.
        if self._children.num_changes == self._num_changes:
            self._children.manifests = {
                child: _slim(self._watches[child.kind], manifest)
                for child, manifest in self._seen.items()
            }
            self._children.read_at = self._asked_at


def _is_past(watch: ChildWatch, manifest: Manifest) -> bool:
    """Whether more is to be known of a child than was told."""
    # Pods are what their Job makes of them: while that runs, the watch's word is enough.
    if watch.resource == POD:
        return False
    return is_deleting(manifest) or (watch.is_over is not None and watch.is_over(manifest))


def _slim(watch: ChildWatch, manifest: Manifest) -> Manifest:
    """The object without what is long and of no use here: a thousand of them are kept."""
    slim = {**manifest, "metadata": _without(manifest["metadata"], _LARGE_METADATA)}
    if "spec" in manifest:
        slim["spec"] = _without(manifest["spec"], watch.unread_spec)
    return slim


def _without(fields: Manifest, left_out: frozenset[str]) -> Manifest:
    return {name: value for name, value in fields.items() if name not in left_out}
