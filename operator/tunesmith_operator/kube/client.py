"""The few requests that the operator makes of the API server.

`Cluster` is what the rest of the operator sees; tests put a double in its place. `ApiCluster` is
the real one. Objects go in and come out as plain manifests.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

FIELD_MANAGER: Final = "tunesmith-operator"
NOT_FOUND: Final = 404
CONFLICT: Final = 409
_EXISTS: Final = "AlreadyExists"
# A server that was restored from a copy knows nothing as new as what it told of before.
_TOO_NEW: Final = 504
_FIRST_ERROR: Final = 300
_KUEUE: Final = "/apis/kueue.x-k8s.io"

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"

_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "ConfigMap": ("/api/v1", "configmaps"),
    "Event": ("/api/v1", "events"),
    "FineTuneJob": ("/apis/tunesmith.dev/v1alpha1", "finetunejobs"),
    "Job": ("/apis/batch/v1", "jobs"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Pod": ("/api/v1", "pods"),
    "RayJob": ("/apis/ray.io/v1", "rayjobs"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "ValidatingAdmissionPolicy": (_ADMISSION, "validatingadmissionpolicies"),
    "ValidatingAdmissionPolicyBinding": (_ADMISSION, "validatingadmissionpolicybindings"),
}

Manifest = dict[str, Any]
Manifests = list[Manifest]


class Cluster(Protocol):
    """An API server."""

    async def get(
        self, kind: str, namespace: str, name: str, *, not_before: str = ""
    ) -> Manifest | None:
        """The object as it is stored, None if there is none.

        With `not_before`, as it was at this resourceVersion or later, which costs the server less.
        """

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        """The objects with these labels."""

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply, in the operator's name.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: the server refuses, or the object that is
                there is on its way out: no use to anybody, and no other can be made yet.
        """

    async def patch_status(self, found: Manifest, change: Manifest) -> str:
        """Merge a change into the status of exactly this version; return the one that it makes."""

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


class ApiCluster:
    """The API server of a `kubernetes.aio` client."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._kueue_version: str | None = None

    async def get(
        self, kind: str, namespace: str, name: str, *, not_before: str = ""
    ) -> Manifest | None:
        """The object as it is stored, None if there is none.

        With `not_before`, as it was at this resourceVersion or later, which costs the server less.
        """
        path = _path(kind, namespace, name)
        query = f"?{urlencode({'resourceVersion': not_before})}" if not_before else ""
        try:
            return await self._request("GET", f"{path}{query}")
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            if error.status == _TOO_NEW and not_before:
                return await self.get(kind, namespace, name)
            raise

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        """The objects with these labels."""
        path = f"{_path(kind, namespace)}?{urlencode({'labelSelector': labels})}"
        found: list[Manifest] = (await self._request("GET", path))["items"]
        return found

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply, in the operator's name."""
        meta = manifest["metadata"]
        path = _path(manifest["kind"], meta["namespace"], meta["name"])
        query = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
        found = await self._request(
            "PATCH", f"{path}?{query}", manifest, content_type="application/apply-patch+yaml"
        )
        if "deletionTimestamp" in found["metadata"]:
            raise ApiException(status=CONFLICT, reason=f"{path} is there, but being deleted")

    async def patch_status(self, found: Manifest, change: Manifest) -> str:
        """Merge a change into the status of exactly this version; return the one that it makes.

        An apply says the same, and costs the server nearly twice the processor time.
        """
        meta = found["metadata"]
        version = {key: meta[key] for key in ("uid", "resourceVersion")}
        path = _path(found["kind"], meta["namespace"], meta["name"], "status")
        query = urlencode({"fieldManager": FIELD_MANAGER})
        body = {"metadata": version, "status": change}
        stored = await self._request(
            "PATCH", f"{path}?{query}", body, content_type="application/merge-patch+json"
        )
        made: str = stored["metadata"]["resourceVersion"]
        return made

    async def create(self, manifest: Manifest) -> bool:
        """Create the object, and return whether it is new; one that is there stays as it is.

        Others write into it as soon as it exists, Kueue for one, and what they wrote is theirs.
        """
        path = _path(manifest["kind"], manifest["metadata"]["namespace"])
        query = urlencode({"fieldManager": FIELD_MANAGER})
        try:
            await self._request("POST", f"{path}?{query}", manifest)
        except ApiException as error:
            # A quota that somebody else changed is a conflict, too, and then nothing was created.
            if error.status != CONFLICT or _EXISTS not in str(error.reason):
                raise
            return False
        return True

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: Manifest | None = None
    ) -> None:
        """Delete in the foreground: the object stays until all it owns is gone.

        With `as_seen`, only if it is still that object and nobody has changed it.
        """
        options: Manifest = {"propagationPolicy": "Foreground"}
        if as_seen is not None:
            known = as_seen["metadata"]
            options["preconditions"] = {key: known[key] for key in ("uid", "resourceVersion")}
        try:
            await self._request("DELETE", _path(kind, namespace, name), options)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise

    async def workloads(self, namespace: str, *, of_uid: str) -> Manifests | None:
        """What Kueue keeps for the object with this uid; None where Kueue is not installed."""
        try:
            if self._kueue_version is None:
                group = await self._request("GET", _KUEUE)
                self._kueue_version = group["preferredVersion"]["version"]
            query = urlencode({"labelSelector": f"kueue.x-k8s.io/job-uid={of_uid}"})
            path = f"{_KUEUE}/{self._kueue_version}/namespaces/{quote(namespace)}/workloads?{query}"
            found: Manifests = (await self._request("GET", path))["items"]
        except ApiException as error:
            self._kueue_version = None
            if error.status == NOT_FOUND:
                return None
            raise
        return found

    async def warnings(self, namespace: str, *, of_uid: str) -> Manifests:
        """The Events that warn of something about the object with this uid."""
        query = urlencode({"fieldSelector": f"involvedObject.uid={of_uid},type=Warning"})
        found: Manifests = (await self._request("GET", f"{_path('Event', namespace)}?{query}"))[
            "items"
        ]
        return found

    async def serves(self, kind: str) -> bool:
        """Whether the definition of this kind is installed; anybody may ask."""
        prefix, plural = _PLACES[kind]
        try:
            found = await self._request("GET", prefix)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return any(each["name"] == plural for each in found["resources"])

    async def _request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        content_type: str = "application/json",
    ) -> Manifest:
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}"
        response = await self._api.call_api(method, url, headers, body, _request_timeout=30)
        text = (await response.read()).decode()  # type: ignore[no-untyped-call]
        if response.status >= _FIRST_ERROR:
            raise ApiException(status=response.status, reason=f"{method} {path}: {text}")
        answer: Manifest = json.loads(text)
        return answer


def _path(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    prefix, plural = _PLACES[kind]
    within = ["namespaces", quote(namespace)] if namespace else []
    parts = [prefix, *within, plural, quote(name), subresource]
    return "/".join(part for part in parts if part)
