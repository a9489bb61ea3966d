"""Every object that comes into being for a job: watched, from the start, past the operator.

A list at the end shows what is there; only a watch shows that something was there twice.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from aiohttp import ClientError, ClientSession, ClientTimeout

from tunesmith_operator.finetunejob.child_names import LABEL_JOB
from tunesmith_operator.kube.objects import SELECTOR

_KINDS: Final = (
    "/api/v1/configmaps",
    "/api/v1/persistentvolumeclaims",
    "/api/v1/pods",
    "/api/v1/serviceaccounts",
    "/apis/batch/v1/jobs",
    "/apis/ray.io/v1/rayjobs",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/roles",
)
_LONGEST_LINE: Final = 4 << 20
# Those pods are KubeRay's: it makes them, and makes them anew.
NOT_RAYS: Final = "!ray.io/cluster"
_WANTED: Final = f"{SELECTOR},{NOT_RAYS}"


@dataclass(frozen=True)
class Birth:
    """An object; a pod goes by the name of its Job, for its own is made up.

    `job` is empty for what the jobs of a namespace share.
    """

    namespace: str
    kind: str
    name: str
    uid: str
    job: str


class Births:
    """What was born since the start in the namespaces whose names begin with `home`.

    Tests that run beside this one make the same things in namespaces of their own.
    """

    def __init__(self, http: httpx.Client, home: str) -> None:
        self._http = http
        self._home = home
        self._kinds = [each for each in _KINDS if http.get(each, params={"limit": 1}).is_success]
        self._since = {each: _version(self._list(each)) for each in self._kinds}
        self._seen: dict[str, Birth] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    @property
    def all(self) -> list[Birth]:
        """Everything that was born so far."""
        return list(self._seen.values())

    def twins(self) -> dict[tuple[str, str, str], int]:
        """What was born more than once."""
        times = Counter((each.namespace, each.kind, each.name) for each in self.all)
        return {name: number for name, number in times.items() if number > 1}

    def alive(self, namespaces: Iterable[str]) -> list[Birth]:
        """What is there now in these namespaces; everything of it has been seen."""
        wanted = set(namespaces)
        found = [
            _birth(kind, each)
            for kind in self._kinds
            for each in self._list(kind)["items"]
            if each["metadata"]["namespace"] in wanted
        ]
        give_up = time.monotonic() + 20
        while missed := [each for each in found if each.uid not in self._seen]:
            assert time.monotonic() < give_up, f"the watch has not seen {missed}"
            time.sleep(0.05)
        return found

    def run(self) -> None:
        """Watch until told to stop: what the thread does."""
        self._loop.run_until_complete(self._watch_all())
        self._loop.close()

    def stop(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._stop.set)

    def _list(self, kind: str) -> dict[str, Any]:
        answer = self._http.get(kind, params={"labelSelector": _WANTED})
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def _watch_all(self) -> None:
        async with ClientSession(
            str(self._http.base_url), timeout=ClientTimeout(total=None), read_bufsize=_LONGEST_LINE
        ) as session:
            watches = [asyncio.create_task(self._watch(session, kind)) for kind in self._kinds]
            await self._stop.wait()
            for each in watches:
                each.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, session: ClientSession, kind: str) -> None:
        """Follow one kind; a broken connection goes on from the version seen last."""
        while True:
            query = {"watch": "1", "labelSelector": _WANTED, "resourceVersion": self._since[kind]}
            try:
                async with session.get(kind, params=query, raise_for_status=True) as stream:
                    async for line in stream.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            await self._catch_up(session, kind)
                            break
                        self._hear(kind, event)
            except ClientError:
                await asyncio.sleep(0.2)

    async def _catch_up(self, session: ClientSession, kind: str) -> None:
        """A server that was started again has forgotten old versions."""
        query = {"labelSelector": _WANTED}
        async with session.get(kind, params=query, raise_for_status=True) as answer:
            found = await answer.json()
        for each in found["items"]:
            self._hear(kind, {"type": "ADDED", "object": each})
        self._since[kind] = _version(found)

    def _hear(self, kind: str, event: dict[str, Any]) -> None:
        found = event["object"]
        self._since[kind] = _version(found)
        is_ours = found["metadata"].get("namespace", "").startswith(self._home)
        if event["type"] == "ADDED" and is_ours:
            self._seen.setdefault(found["metadata"]["uid"], _birth(kind, found))


@contextmanager
def watched_births(http: httpx.Client, home: str) -> Iterator[Births]:
    """Everything that is born from here on in the namespaces whose names begin with `home`."""
    births = Births(http, home)
    thread = threading.Thread(target=births.run)
    thread.start()
    try:
        yield births
    finally:
        births.stop()
        thread.join()


def _birth(kind: str, found: dict[str, Any]) -> Birth:
    known = found["metadata"]
    labels = known["labels"]
    name = labels.get("batch.kubernetes.io/job-name") or known["name"]
    plural = kind.rsplit("/", 1)[1]
    return Birth(known["namespace"], plural, name, known["uid"], labels.get(LABEL_JOB, ""))


def _version(found: dict[str, Any]) -> str:
    version: str = found["metadata"]["resourceVersion"]
    return version
