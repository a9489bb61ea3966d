"""An API server in memory, for tests of what the operator decides; `api_contract.py` proves it.

It keeps what a real one keeps of the operator's few requests: versions and their conflicts,
ownership and deletion in the foreground, fields of several writers. It knows no schema, no
defaults and no controller, and what a real one does after a while is done here at once.
"""

from collections.abc import Collection
from copy import deepcopy
from itertools import count
from typing import Any, Final
from uuid import uuid4

from kubernetes.aio.client.exceptions import ApiException

from clock import now_text
from json_merge import merged
from tunesmith_operator.kube.objects import MANAGER

Manifest = dict[str, Any]
Manifests = list[Manifest]
Key = tuple[str, str, str]
Keys = list[Key]

_CLUSTER_WIDE: Final = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
_CUSTOM: Final = {"FineTuneJob", "Gateway", "HTTPRoute", "ModelDeployment", "ModelVersion"} | {
    "RayJob",
    "ScaledObject",
    "Workload",
}
_WITH_GENERATION: Final = _CUSTOM | {"Deployment", "Job"}
_KINDS: Final = frozenset(
    {
        "ConfigMap",
        "Event",
        "FineTuneJob",
        "Job",
        "PersistentVolumeClaim",
        "Pod",
        "Role",
        "RoleBinding",
    }
    | {"Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}
    | _CLUSTER_WIDE
)
_FOREGROUND: Final = "foregroundDeletion"


class ApiDouble:
    """The server; `kinds` are defined beside those that every installation has."""

    def __init__(self, *kinds: str, namespaces: Collection[str] = ("ns",)) -> None:
        self.objects: dict[Key, Manifest] = {}
        self._kinds = _KINDS | set(kinds)
        self._namespaces = set(namespaces)
        self._applied: dict[tuple[str, Key], Manifest] = {}
        self._versions = count(1)

    async def get(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        not_before: str = "",  # noqa: ARG002 - it is never behind
    ) -> Manifest | None:
        return deepcopy(self.objects.get((kind, namespace, name)))

    async def list(self, kind: str, namespace: str, *, labels: str) -> Manifests:
        self._refuse_unknown(kind)
        wanted = dict(each.split("=", 1) for each in labels.split(",") if each)
        found = [
            deepcopy(each)
            for (of_kind, within, _), each in sorted(self.objects.items())
            if (of_kind, within) == (kind, namespace)
            and wanted.items() <= (each["metadata"].get("labels") or {}).items()
        ]
        return found if kind in _CUSTOM else [_without_kind(each) for each in found]

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> None:
        key = key_of(manifest)
        before = self._applied.get((manager, key), {})
        if key in self.objects:
            self._replace(key, _applied(self.objects[key], before, manifest))
        else:
            self._make(key, manifest)
        self._applied[manager, key] = deepcopy(manifest)
        self.written()
        if "deletionTimestamp" in self.objects[key]["metadata"]:
            raise ApiException(status=409, reason=f"{key} is there, but being deleted")

    async def patch_status(self, found: Manifest, change: Manifest) -> str:
        key = key_of(found)
        if key not in self.objects:
            raise ApiException(status=404, reason=f"there is no {key}")
        self._refuse_stale(key, found)
        stored = self.objects[key]
        status = merged(stored.get("status", {}), change)
        self._replace(key, {**stored, "status": status})
        made: str = self.objects[key]["metadata"]["resourceVersion"]
        self.written()
        return made

    async def patch(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        key = (kind, namespace, name)
        if key not in self.objects:
            raise ApiException(status=404, reason=f"there is no {key}")
        known = self.objects[key]["metadata"]
        if change.get("metadata", {}).get("uid", known["uid"]) != known["uid"]:
            raise ApiException(status=422, reason=f"the uid of {key} is immutable")
        self._replace(key, merged(self.objects[key], change))
        self.written()

    async def create(self, manifest: Manifest) -> bool:
        key = key_of(manifest)
        is_new = key not in self.objects
        if is_new:
            self._make(key, manifest)
        self.written()
        return is_new

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: Manifest | None = None
    ) -> None:
        key = (kind, namespace, name)
        if key not in self.objects:
            return
        if as_seen is not None:
            self._refuse_stale(key, as_seen)
        self._mark(key)
        self._collect()
        self.written()

    async def workloads(self, namespace: str, *, of_uid: str) -> Manifests | None:
        if not await self.serves("Workload"):
            return None
        return await self.list("Workload", namespace, labels=f"kueue.x-k8s.io/job-uid={of_uid}")

    async def warnings(self, namespace: str, *, of_uid: str) -> Manifests:
        return [
            _without_kind(deepcopy(each))
            for (kind, within, _), each in sorted(self.objects.items())
            if (kind, within) == ("Event", namespace)
            and (each["involvedObject"].get("uid"), each.get("type")) == (of_uid, "Warning")
        ]

    async def serves(self, kind: str) -> bool:
        return kind in self._kinds

    def put(self, manifest: Manifest) -> None:
        """Somebody else creates the object."""
        self._make(key_of(manifest), manifest)

    def change(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        """Somebody else changes the object, by a merge patch."""
        key = (kind, namespace, name)
        self._replace(key, merged(self.objects[key], change))
        self._collect()

    def made(self, key: Key) -> None:
        """For tests to override: the object has come into being."""

    def written(self) -> None:
        """For tests to override: the operator's write is done, and its answer on the way."""

    def _make(self, key: Key, manifest: Manifest) -> None:
        kind, namespace, _ = key
        self._refuse_unknown(kind)
        if namespace not in self._namespaces | {""}:
            raise ApiException(status=404, reason=f'namespaces "{namespace}" not found')
        known: Manifest = {
            "uid": str(uuid4()),
            "creationTimestamp": now_text(),
            "resourceVersion": self._version(),
        }
        if kind in _WITH_GENERATION:
            known["generation"] = 1
        made = deepcopy(manifest)
        made["metadata"] = known | made["metadata"]
        self.objects[key] = made
        self.made(key)

    def _replace(self, key: Key, after: Manifest) -> None:
        """Store the object as a new version, if it differs at all."""
        before = self.objects[key]
        if after == before:
            return
        known = after["metadata"] | {"resourceVersion": self._version()}
        if key[0] in _WITH_GENERATION and after.get("spec") != before.get("spec"):
            known["generation"] = before["metadata"]["generation"] + 1
        self.objects[key] = {**after, "metadata": known}

    def _version(self) -> str:
        return str(next(self._versions))

    def _mark(self, key: Key) -> None:
        """The object is to go, once what it owns has gone."""
        known = self.objects[key]["metadata"]
        if "deletionTimestamp" in known:
            return
        held = [*known.get("finalizers", []), _FOREGROUND]
        change = {"deletionTimestamp": now_text(), "finalizers": held}
        self._replace(key, merged(self.objects[key], {"metadata": change}))

    def _collect(self) -> None:
        """Take away what is to go, from the leaves of what owns what."""
        going = [each for each in self.objects if self._is_going(each)]
        for key in going:
            for owned in self._owned_by(key):
                if not self._is_going(owned):
                    self._mark(owned)
                    going.append(owned)
        while free := [each for each in going if not self._owned_by(each)]:
            going = [each for each in going if each not in free]
            for key in free:
                self._finish(key)

    def _finish(self, key: Key) -> None:
        """Nothing is left that the object owns: it goes, unless somebody holds it."""
        known = self.objects[key]["metadata"]
        held = [each for each in known.get("finalizers") or [] if each != _FOREGROUND]
        if held:
            self._replace(key, merged(self.objects[key], {"metadata": {"finalizers": held}}))
        else:
            del self.objects[key]
            self._applied = {of: each for of, each in self._applied.items() if of[1] != key}

    def _is_going(self, key: Key) -> bool:
        return "deletionTimestamp" in self.objects[key]["metadata"]

    def _owned_by(self, owner: Key) -> Keys:
        uid = self.objects[owner]["metadata"]["uid"]
        return [
            key
            for key, each in self.objects.items()
            if uid in {of["uid"] for of in each["metadata"].get("ownerReferences", [])}
        ]

    def _refuse_unknown(self, kind: str) -> None:
        if kind not in self._kinds:
            raise ApiException(status=404, reason=f"the server knows no {kind}")

    def _refuse_stale(self, key: Key, seen: Manifest) -> None:
        stored, known = self.objects[key]["metadata"], seen["metadata"]
        if any(stored[each] != known[each] for each in ("uid", "resourceVersion")):
            raise ApiException(status=409, reason=f"{key} has changed")


def key_of(manifest: Manifest) -> Key:
    """Where the object is kept."""
    known = manifest["metadata"]
    return manifest["kind"], known.get("namespace", ""), known["name"]


def _without_kind(found: Manifest) -> Manifest:
    """As a list of a built-in kind has it."""
    return {name: value for name, value in found.items() if name not in {"apiVersion", "kind"}}


def _applied(stored: Any, before: Any, now: Any) -> Any:
    """What server-side apply makes of `stored`, of which the operator had applied `before`."""
    if (
        isinstance(now, list)
        and now
        and all(isinstance(each, dict) and "uid" in each for each in now)
    ):
        maps = ({each["uid"]: each for each in found or []} for found in (stored, before, now))
        return list(_applied(*maps).values())
    if not isinstance(now, dict):
        return deepcopy(now)
    stored = stored if isinstance(stored, dict) else {}
    before = before if isinstance(before, dict) else {}
    kept = {name: value for name, value in stored.items() if name not in before | now}
    left = {name: _applied(stored.get(name), each, {}) for name, each in before.items()}
    given = {
        name: _applied(stored.get(name), before.get(name), value) for name, value in now.items()
    }
    return kept | {name: each for name, each in left.items() if each} | given
