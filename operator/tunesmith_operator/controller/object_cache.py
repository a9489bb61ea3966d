"""What was last told of the jobs themselves: a look at one that is not over reads it no more.

A copy counts until the operator has written something newer, a look has failed, or nothing was told
for so long that a watch may have missed something. What follows from one that is past is refused:
each write names the version that it was decided on.
"""

import json
import time
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.status import Phase
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import Cluster, Manifest

# Seconds; less than those after which a job is looked at although nothing was heard of it.
FRESH_S: Final = 200.0


@dataclass(frozen=True, slots=True)
class Found:
    """A job as it was told or read.

    One that `is_born` was created while we watched and has no status: where its status can be
    stored for the first time, nobody has started anything for it.
    """

    job: Manifest
    is_born: bool = False


@dataclass(frozen=True, slots=True)
class _Copy:
    """A job as text, which takes a quarter of the memory of its object."""

    text: bytes
    is_new: bool
    is_born: bool
    told_at: float

    def is_fresh(self) -> bool:
        """Whether it may be used. Nothing is done for a new job before its status is stored."""
        return self.is_new or time.monotonic() - self.told_at < FRESH_S


class Jobs:
    """The jobs that were told of: of all their versions, of those that are not over a copy."""

    def __init__(self) -> None:
        self._versions: dict[Key, str] = {}
        self._awaited: set[Key] = set()
        self._copies: dict[Key, _Copy] = {}

    def note(self, key: Key, found: Manifest, *, is_born: bool) -> None:
        """Note news of a job, which may be older than what the operator has written meanwhile."""
        version = found["metadata"].get("resourceVersion", "")
        if key in self._awaited and version != self._versions[key]:
            return
        self._awaited.discard(key)
        self._versions[key] = version
        if has_ended(found):
            self._copies.pop(key, None)
        else:
            self._copies[key] = _copy_of(found, is_born=is_born)

    def wrote(self, key: Key, version: str) -> None:
        """Note that the operator itself has made this version, which is told of before long."""
        if self._versions.get(key) != version:
            self._versions[key] = version
            self._awaited.add(key)
            self._copies.pop(key, None)

    def distrust(self, key: Key) -> None:
        """Note that the copy may be past: until something new is told, the job is read."""
        self._copies.pop(key, None)

    def forget(self, key: Key) -> None:
        """Note that the job is gone."""
        self._copies.pop(key, None)
        self._awaited.discard(key)
        self._versions.pop(key, None)

    async def read(self, cluster: Cluster, key: Key) -> Found | None:
        """The job as it was told of last, or at that version or later; None if there is none."""
        copy = self._copies.get(key)
        if copy is not None and copy.is_fresh():
            return Found(json.loads(copy.text), is_born=copy.is_born)
        namespace, name = key
        version = self._versions.get(key, "")
        job = await cluster.get("FineTuneJob", namespace, name, not_before=version)
        if job is not None:
            return Found(job)
        # A list that is made anew does not tell of what has gone.
        if self._versions.get(key, "") == version:
            self.forget(key)
        return None


def has_ended(job: Manifest) -> bool:
    """Whether it has come to its end."""
    phase = (job.get("status") or {}).get("phase")
    return phase is not None and Phase(phase).is_terminal


def _copy_of(found: Manifest, *, is_born: bool) -> _Copy:
    known = {key: each for key, each in found["metadata"].items() if key != "managedFields"}
    text = json.dumps({**found, "metadata": known}).encode()
    is_new = "status" not in found
    return _Copy(text, is_new, is_born and is_new, told_at=time.monotonic())
