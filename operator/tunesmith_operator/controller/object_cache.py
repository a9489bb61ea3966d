"""What was last told of the objects of one controller: what is not over is read no more.

A copy counts until the operator has written something newer, a look has failed, or nothing was told
for so long that a watch may have missed something. What follows from one that is past is refused:
each write names the version that it was decided on.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.lost_fields import lost_fields
from tunesmith_operator.kube.objects import Manifest

# Seconds; less than those after which an object is looked at although nothing was heard of it, so
# that each of those looks reads it anew.
FRESH_S: Final = 200.0


@dataclass(frozen=True, slots=True)
class CachedObject:
    """An object as it was told or read.

    One that `is_new` was created while we watched and has no status: where its status can be
    stored for the first time, nobody has started anything for it.
    """

    manifest: Manifest
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class _Copy:
    """An object as text, which takes a quarter of the memory of its dict."""

    text: bytes
    has_status: bool
    is_new: bool
    told_at: float

    @classmethod
    def of(cls, manifest: Manifest, *, is_created: bool) -> Self:
        """A copy as of now, without the notes of field managers unless they tell of a loss."""
        unread = {"managedFields"} if next(lost_fields(manifest), None) is None else set()
        metadata = {
            name: value for name, value in manifest["metadata"].items() if name not in unread
        }
        text = json.dumps({**manifest, "metadata": metadata}).encode()
        has_status = "status" in manifest
        return cls(text, has_status, is_created and not has_status, told_at=time.monotonic())

    def is_fresh(self) -> bool:
        """Whether it may be used."""
        # One without a status never ages: nothing is done for it before its status is stored, and
        # that write fails if the copy is past.
        return not self.has_status or time.monotonic() - self.told_at < FRESH_S


class ObjectCache:
    """The objects that were told of: of all their versions, of those that are not over a copy.

    `has_ended` says which are over; those are looked at once more at the most.
    """

    def __init__(self, *, has_ended: Callable[[Manifest], bool] = lambda _: False) -> None:
        self._has_ended = has_ended
        self._versions: dict[Key, str] = {}
        self._awaited: set[Key] = set()
        self._copies: dict[Key, _Copy] = {}
        self._over: set[Key] = set()

    def note(self, key: Key, manifest: Manifest, *, is_created: bool) -> None:
        """Note news of an object, which may be older than what the operator has written meanwhile.

        `is_created` is for news of its creation, as it happens; what is listed may be there long.
        """
        is_over = self._has_ended(manifest)
        if is_over:
            self._over.add(key)
        else:
            self._over.discard(key)
        version = manifest["metadata"].get("resourceVersion", "")
        # The answer to a write may overtake the news of the writes before it. Versions cannot be
        # compared but for being the same, so everything is older until our own comes by.
        if key in self._awaited and version != self._versions[key]:
            return
        self._awaited.discard(key)
        self._versions[key] = version
        if is_over:
            self._copies.pop(key, None)
        else:
            self._copies[key] = _Copy.of(manifest, is_created=is_created)

    def is_over(self, key: Key) -> bool:
        """Whether the object was last told to have come to its end."""
        return key in self._over

    def wrote(self, key: Key, version: str) -> None:
        """Note that the operator itself has made this version, which is told of before long."""
        # A write that changed nothing makes no version, and its news may have come before.
        if self._versions.get(key) != version:
            self._versions[key] = version
            self._awaited.add(key)
            self._copies.pop(key, None)

    def distrust(self, key: Key) -> None:
        """Note that the copy may be past: until something new is told, the object is read."""
        self._copies.pop(key, None)

    def forget(self, key: Key) -> None:
        """Note that the object is gone."""
        self._copies.pop(key, None)
        self._awaited.discard(key)
        self._versions.pop(key, None)
        self._over.discard(key)

    async def read(self, client: KubeClient, key: Key) -> CachedObject | None:
        """The object as it was told of last, or at that version or later; None if there is none."""
        copy = self._copies.get(key)
        if copy is not None and copy.is_fresh():
            return CachedObject(json.loads(copy.text), is_new=copy.is_new)
        version = self._versions.get(key, "")
        manifest = await client.get(key.kind, key.namespace, key.name, not_before=version)
        if manifest is not None:
            return CachedObject(manifest)
        # A list that is made anew does not tell of what has gone. But if something was told while
        # the answer was on its way, the object was made again.
        if self._versions.get(key, "") == version:
            self.forget(key)
        return None
