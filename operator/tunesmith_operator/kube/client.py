"""The few requests that the operator makes of the API server.

`KubeClient` is what the rest of the operator sees; tests put a double in its place. `ApiServer` is
the real one. Objects go in and come out as plain manifests.
"""

import json
from collections.abc import Iterable
from typing import Final, Protocol
from urllib.parse import quote, urlencode

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.kube.api_errors import (
    CONFLICT,
    NOT_FOUND,
    TOO_NEW_A_VERSION,
    is_already_there,
)
from tunesmith_operator.kube.objects import MANAGER, Manifest, is_deleting
from tunesmith_operator.kube.resources import EVENT, RESOURCES, Resource

# Seconds. `controller/health.py` takes a worker for stuck that outlasts some dozens of these.
REQUEST_TIMEOUT_S: Final = 30
_FIRST_ERROR: Final = 300
_KUEUE: Final = "/apis/kueue.x-k8s.io"
_AS_MANAGER: Final = {"fieldManager": MANAGER}
# NB: without it the server drops a field that its definitions lack, with no word to anybody: an old
# KubeRay made of a head that asks for tokens one that asks for none. Only of a status may one be
# dropped: the definitions may be older than the operator for the minutes of an upgrade.
_STRICT: Final = {"fieldValidation": "Strict"}
_MERGE_PATCH: Final = "application/merge-patch+json"

Manifests = list[Manifest]


class Reader(Protocol):
    """Where objects are read: the server, or a cache of it."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object, None if there is none."""

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        """The objects with these labels."""


class KubeClient(Protocol):
    """An API server."""

    async def get(
        self, kind: str, namespace: str, name: str, *, not_before: str = ""
    ) -> Manifest | None:
        """The object as it is stored, None if there is none.

        With `not_before`, as it was at this resourceVersion or later, which costs the server less.
        """

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        """The objects with these labels; those of built-in kinds lack `kind` and `apiVersion`."""

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> None:
        """Server-side apply, as a rule in the operator's name.

        Another `manager` adds to what the operator applies elsewhere, and neither takes the
        other's fields away.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: the server refuses, or the object that is
                there is on its way out: no use to anybody, and no other can be made yet.
        """

    async def patch_status(self, seen: Manifest, change: Manifest) -> str:
        """Merge a change into the status of exactly this version; return the one that it makes."""

    async def patch(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        """Merge a change into an object; a uid in it says of which, and another stays as it is.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: there is none, or it is another.
        """

    async def create(self, manifest: Manifest) -> bool:
        """Create the object, and return whether it is new; one that is there stays as it is."""

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: Manifest | None = None
    ) -> None:
        """Delete in the foreground: the object stays until all it owns is gone.

        With `as_seen`, only if it is still that object and nobody has changed it.
        """

    async def workloads(self, namespace: str, *, of_uid: str) -> Manifests | None:
        """What Kueue keeps for the object with this uid; None where Kueue is not installed."""

    async def warnings(self, namespace: str, *, of_uid: str) -> Manifests:
        """The Events that warn of something about the object with this uid."""

    async def serves(self, kind: str) -> bool:
        """Whether the definition of this kind is installed."""


class ApiServer:
    """The API server of a `kubernetes.aio` client; `resources` are our own kinds.

    Requests are made by hand: for 1,000 objects the library's dynamic client took 8 processor
    seconds where plain requests took 5.
    """

    def __init__(self, api: client.ApiClient, resources: Iterable[Resource] = ()) -> None:
        self._api = api
        self._resources = {resource.kind: resource for resource in (*RESOURCES, *resources)}
        self._kueue_version: str | None = None

    async def get(
        self, kind: str, namespace: str, name: str, *, not_before: str = ""
    ) -> Manifest | None:
        """The object as it is stored, None if there is none.

        With `not_before`, as it was at this resourceVersion or later, which costs the server less.
        """
        path = self._path(kind, namespace, name)
        # A version lets the server answer from its watch cache; without one it reads etcd.
        query = f"?{urlencode({'resourceVersion': not_before})}" if not_before else ""
        try:
            return await self._request("GET", f"{path}{query}")
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            if error.status == TOO_NEW_A_VERSION and not_before:
                return await self.get(kind, namespace, name)
            raise

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        """The objects with these labels; those of built-in kinds lack `kind` and `apiVersion`."""
        return await self._items(self._path(kind, namespace), labelSelector=labels)

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> None:
        """Server-side apply, as a rule in the operator's name."""
        meta = manifest["metadata"]
        path = self._path(manifest["kind"], meta["namespace"], meta["name"])
        # Forced: a field that somebody else took over is ours again, or the apply would fail at
        # every look from then on.
        query = urlencode({"fieldManager": manager, "force": "true", **_STRICT})
        stored = await self._request(
            "PATCH", f"{path}?{query}", manifest, content_type="application/apply-patch+yaml"
        )
        # The server takes an apply to what is being deleted for a success.
        if is_deleting(stored):
            raise ApiException(status=CONFLICT, reason=f"{path} is there, but being deleted")

    async def patch_status(self, seen: Manifest, change: Manifest) -> str:
        """Merge a change into the status of exactly this version; return the one that it makes."""
        meta = seen["metadata"]
        # NB: uid and version in a patch are preconditions. Of two operators, and of two looks, that
        # decide on one version only the first can write; on this rests that nothing starts twice.
        preconditions = {key: meta[key] for key in ("uid", "resourceVersion")}
        path = self._path(seen["kind"], meta["namespace"], meta["name"], "status")
        # As an apply it would cost the server nearly twice the processor time: 18 ms for 10.5.
        stored = await self._request(
            "PATCH",
            f"{path}?{urlencode(_AS_MANAGER)}",
            {"metadata": preconditions, "status": change},
            content_type=_MERGE_PATCH,
        )
        version: str = stored["metadata"]["resourceVersion"]
        return version

    async def patch(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        """Merge a change into an object; a uid in it says of which, and another stays as it is."""
        query = urlencode(_AS_MANAGER | _STRICT)
        path = self._path(kind, namespace, name)
        await self._request("PATCH", f"{path}?{query}", change, content_type=_MERGE_PATCH)

    async def create(self, manifest: Manifest) -> bool:
        """Create the object, and return whether it is new; one that is there stays as it is."""
        # Never an apply: others write into it as soon as it exists, Kueue for one, which lifts
        # `suspend` and adds node labels, and what they wrote is theirs.
        path = self._path(manifest["kind"], manifest["metadata"]["namespace"])
        try:
            query = urlencode(_AS_MANAGER | _STRICT)
            await self._request("POST", f"{path}?{query}", manifest)
        except ApiException as error:
            if not is_already_there(error):
                raise
            return False
        return True

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: Manifest | None = None
    ) -> None:
        """Delete in the foreground: the object stays until all it owns is gone.

        With `as_seen`, only if it is still that object and nobody has changed it.
        """
        # In the background a Job would be gone before its pods, and the next attempt could begin
        # beside what is left of this one.
        options: Manifest = {"propagationPolicy": "Foreground"}
        if as_seen is not None:
            known = as_seen["metadata"]
            options["preconditions"] = {key: known[key] for key in ("uid", "resourceVersion")}
        try:
            await self._request("DELETE", self._path(kind, namespace, name), options)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise

    async def workloads(self, namespace: str, *, of_uid: str) -> Manifests | None:
        """What Kueue keeps for the object with this uid; None where Kueue is not installed."""
        # Which versions are served depends on Kueue's release, so it is asked, once.
        try:
            if self._kueue_version is None:
                group = await self._request("GET", _KUEUE)
                self._kueue_version = group["preferredVersion"]["version"]
            path = f"{_KUEUE}/{self._kueue_version}/namespaces/{quote(namespace)}/workloads"
            return await self._items(path, labelSelector=f"kueue.x-k8s.io/job-uid={of_uid}")
        except ApiException as error:
            # It may have been upgraded, or taken away: asked for anew the next time.
            self._kueue_version = None
            if error.status == NOT_FOUND:
                return None
            raise

    async def warnings(self, namespace: str, *, of_uid: str) -> Manifests:
        """The Events that warn of something about the object with this uid."""
        fields = f"involvedObject.uid={of_uid},type=Warning"
        return await self._items(self._path(EVENT.kind, namespace), fieldSelector=fields)

    async def serves(self, kind: str) -> bool:
        """Whether the definition of this kind is installed."""
        # Discovery, and not the definition itself: that anybody may ask, without a right.
        resource = self._resources[kind]
        try:
            served = await self._request("GET", resource.prefix)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return any(entry["name"] == resource.plural for entry in served["resources"])

    async def _items(self, path: str, **query: str) -> Manifests:
        items: Manifests = (await self._request("GET", f"{path}?{urlencode(query)}"))["items"]
        return items

    async def _request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        content_type: str = "application/json",
    ) -> Manifest:
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        # The token of a pod is renewed on disk while it runs, so each request takes it anew.
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}"
        response = await self._api.call_api(
            method, url, headers, body, _request_timeout=REQUEST_TIMEOUT_S
        )
        text = (await response.read()).decode()  # type: ignore[no-untyped-call]
        if response.status >= _FIRST_ERROR:
            raise ApiException(status=response.status, reason=f"{method} {path}: {text}")
        answer: Manifest = json.loads(text)
        return answer

    def _path(self, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
        resource = self._resources[kind]
        within = ["namespaces", quote(namespace)] if namespace else []
        parts = [resource.prefix, *within, resource.plural, quote(name), subresource]
        return "/".join(part for part in parts if part)
