"""Who the stages of a job are to the API server: what lets each patch its own report and no other.

Where the chart's policy is there, all jobs of a namespace share one identity. It may patch
ConfigMaps, and the policy holds every pod to the report of the job that the pod's name begins with.
The identity is owned by the policy, so that the right goes when the policy does. Elsewhere every
job has an identity of its own, with a Role that names its report.
"""

import asyncio
import time
from collections import defaultdict
from typing import Final

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.finetunejob.child_names import (
    JOB_MARK,
    MANAGED_BY,
    MANAGER,
    REPORT_POLICY,
    STAGES_ACCOUNT,
    family_name,
)
from tunesmith_operator.finetunejob.manifests import Owner, owned, owners_of
from tunesmith_operator.kube.client import Cluster, Manifest

FRESH_S: Final = 60.0
_FORBIDDEN: Final = 403
_RBAC: Final = "rbac.authorization.k8s.io"


class Identities:
    """The identities of one API server; what was seen of it a minute ago is taken as true."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._policy: Manifest | None = None
        self._looked_at = -float("inf")
        self._provided: dict[str, float] = {}

    async def account_of(self, owner: Owner) -> str:
        """The ServiceAccount for the next attempt of a job; it is there when this returns."""
        policy = await self._current_policy() if may_share(owner.name) else None
        if policy is None:
            await self._provide(identity_of(owner))
            return family_name(owner.name)
        async with self._locks[owner.namespace]:
            provided = self._provided.get(owner.namespace, -float("inf"))
            if time.monotonic() - provided > FRESH_S:
                await self._provide(shared_identity(owner.namespace, policy))
                self._provided[owner.namespace] = time.monotonic()
        return STAGES_ACCOUNT

    async def renew(self, owner: Owner) -> None:
        """Make sure of the identity of a job whose pods nobody makes, whatever was seen before.

        A namespace that was deleted and made again has lost it, and so has one where somebody
        deleted the account.
        """
        self._provided.pop(owner.namespace, None)
        await self.account_of(owner)

    async def _current_policy(self) -> Manifest | None:
        async with self._lock:
            if time.monotonic() - self._looked_at > FRESH_S:
                found = await self._policy_in_force()
                if _uid(found) != _uid(self._policy):
                    self._provided.clear()
                self._policy, self._looked_at = found, time.monotonic()
            return self._policy

    async def _policy_in_force(self) -> Manifest | None:
        """The policy, if it is bound; an operator that may not look has none."""
        try:
            policy = await self._cluster.get("ValidatingAdmissionPolicy", "", REPORT_POLICY)
            binding = await self._cluster.get("ValidatingAdmissionPolicyBinding", "", REPORT_POLICY)
        except ApiException as error:
            if error.status == _FORBIDDEN:
                return None
            raise
        found = [each for each in (policy, binding) if each and not _is_going(each)]
        return policy if len(found) == 2 and _denies(binding) else None  # noqa: PLR2004

    async def _provide(self, wanted: list[Manifest]) -> None:
        for each in wanted:
            meta = each["metadata"]
            found = await self._cluster.get(each["kind"], meta["namespace"], meta["name"])
            if found is None or not _is_as(found, each):
                await self._cluster.apply(each)


def may_share(job: str) -> bool:
    """Whether the name of the job is told from every other where a pod's name begins with it."""
    return JOB_MARK not in job


def identity_of(owner: Owner) -> list[Manifest]:
    """The identity of one job, which may patch the report of that job."""
    name = family_name(owner.name)
    parts = _parts(name, owner.namespace, reports=[name])
    return [owned(version, kind, name, owner, **rest) for version, kind, rest in parts]


def shared_identity(namespace: str, policy: Manifest) -> list[Manifest]:
    """The identity of all jobs of a namespace, for as long as the policy holds it in check."""
    reference = {
        "apiVersion": policy["apiVersion"],
        "kind": policy["kind"],
        "name": policy["metadata"]["name"],
        "uid": policy["metadata"]["uid"],
    }
    metadata = {
        "name": STAGES_ACCOUNT,
        "namespace": namespace,
        "labels": {MANAGED_BY: MANAGER},
        "ownerReferences": [reference],
    }
    parts = _parts(STAGES_ACCOUNT, namespace, reports=[])
    return [
        {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}
        for version, kind, rest in parts
    ]


def _parts(name: str, namespace: str, *, reports: list[str]) -> list[tuple[str, str, Manifest]]:
    """Version, kind and content of what an identity is made of; no `reports` means all."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}
    rules = [rule | ({"resourceNames": reports} if reports else {})]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": name}
    return [
        ("v1", "ServiceAccount", {"automountServiceAccountToken": False}),
        (f"{_RBAC}/v1", "Role", {"rules": rules}),
        (f"{_RBAC}/v1", "RoleBinding", {"subjects": [subject], "roleRef": reference}),
    ]


def _is_as(found: Manifest, wanted: Manifest) -> bool:
    """Whether the object that is there says what is wanted, and belongs to the same owner."""
    said = all(found.get(key) == value for key, value in wanted.items() if key != "metadata")
    return said and owners_of(found) == owners_of(wanted) and not _is_going(found)


def _is_going(found: Manifest) -> bool:
    return "deletionTimestamp" in found["metadata"]


def _denies(binding: Manifest | None) -> bool:
    spec = (binding or {}).get("spec", {})
    return spec.get("policyName") == REPORT_POLICY and "Deny" in spec.get("validationActions", [])


def _uid(found: Manifest | None) -> str:
    return str(found["metadata"]["uid"]) if found else ""
