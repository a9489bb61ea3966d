"""Who the stages of a job are to the API server: what lets each patch its own report and no other.

Where the chart's policy is there, all jobs of a namespace share one ServiceAccount. It may patch
ConfigMaps, and the policy holds every pod to the report of the job that the pod's name begins with.
The account is owned by the policy, and its right by the binding: when one goes, the right does.
Elsewhere every job has an account of its own, with a Role that names its report.
"""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.finetunejob.child_names import (
    JOB_MARK,
    REPORT_POLICY,
    STAGES_ACCOUNT,
    shared_name,
)
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.manifests import owned
from tunesmith_operator.kube.api_errors import FORBIDDEN
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER, Manifest, is_deleting, owners_of
from tunesmith_operator.kube.ownership import make_ours, require_ours

FRESH_S: Final = 60.0
_RBAC: Final = "rbac.authorization.k8s.io"
_POLICY: Final = "ValidatingAdmissionPolicy"
_BINDING: Final = "ValidatingAdmissionPolicyBinding"


class StageAccounts:
    """The accounts of the stages; what was seen of the server a minute ago is taken as true."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._lock = asyncio.Lock()
        # One for each namespace: a request that hangs in one must not hold up the starts in all.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._policy: _PolicyInForce | None = None
        self._looked_at = -float("inf")
        self._provided: dict[str, float] = {}

    async def account_of(self, owner: JobRef) -> str:
        """The ServiceAccount for the next attempt of a job; it is there when this returns."""
        policy = await self._current_policy() if may_share(owner.name) else None
        if policy is None:
            await self._provide(own_account(owner))
            return shared_name(owner.name)
        async with self._locks[owner.namespace]:
            provided = self._provided.get(owner.namespace, -float("inf"))
            if time.monotonic() - provided > FRESH_S:
                await self._provide(shared_account(owner.namespace, policy))
                self._provided[owner.namespace] = time.monotonic()
        return STAGES_ACCOUNT

    async def renew(self, owner: JobRef) -> None:
        """Make sure of the account of a job whose pods nobody makes, whatever was seen before."""
        # A namespace that was deleted and made again has lost it, and so has one where somebody
        # deleted the account; within a minute neither would be noticed.
        self._provided.pop(owner.namespace, None)
        await self.account_of(owner)

    async def _current_policy(self) -> "_PolicyInForce | None":
        async with self._lock:
            if time.monotonic() - self._looked_at > FRESH_S:
                policy = await self._policy_in_force()
                # Another policy of the same name owns nothing yet: accounts go with the old one.
                if policy is None or self._policy is None or policy.uids != self._policy.uids:
                    self._provided.clear()
                self._policy, self._looked_at = policy, time.monotonic()
            return self._policy

    async def _policy_in_force(self) -> "_PolicyInForce | None":
        """The policy, if it is bound; an operator that may not look has none."""
        try:
            policy = await self._client.get(_POLICY, "", REPORT_POLICY)
            binding = await self._client.get(_BINDING, "", REPORT_POLICY)
        except ApiException as error:
            # Who installs the chart without rights in the cluster gives the operator none, too.
            if error.status == FORBIDDEN:
                return None
            raise
        if policy is None or binding is None or is_deleting(policy) or is_deleting(binding):
            return None
        spec = binding.get("spec", {})
        # NB: a policy that only warns would let every stage of a namespace patch every report.
        is_denying = "Deny" in spec.get("validationActions", [])
        is_bound = is_denying and spec.get("policyName") == REPORT_POLICY
        return _PolicyInForce(policy, binding) if is_bound else None

    async def _provide(self, wanted: list[Manifest]) -> None:
        for manifest in wanted:
            metadata = manifest["metadata"]
            there = await self._client.get(
                manifest["kind"], metadata["namespace"], metadata["name"]
            )
            # As a rule nothing is to be made, and a read costs the server less than a write.
            if there is None:
                await make_ours(self._client, manifest)
            elif not _is_as(there, manifest):
                # NB: first. An apply to the operator's own account would hand it to the job's pods.
                require_ours(there, manifest, inherits=metadata["name"] == STAGES_ACCOUNT)
                await self._client.apply(manifest)


@dataclass(frozen=True, slots=True)
class _PolicyInForce:
    """The policy of reports, and what binds it."""

    policy: Manifest
    binding: Manifest

    @property
    def uids(self) -> tuple[str, str]:
        return self.policy["metadata"]["uid"], self.binding["metadata"]["uid"]


def may_share(job: str) -> bool:
    """Whether the name of the job is told from every other where a pod's name begins with it."""
    return JOB_MARK not in job


def own_account(owner: JobRef) -> list[Manifest]:
    """The account of one job, which may patch the report of that job."""
    name = shared_name(owner.name)
    parts = _parts(name, owner.namespace, reports=[name])
    return [owned(version, kind, name, owner, **rest) for version, kind, rest in parts]


def shared_account(namespace: str, in_force: _PolicyInForce) -> list[Manifest]:
    """The account of all jobs of a namespace, for as long as the policy holds it in check."""
    parts = _parts(STAGES_ACCOUNT, namespace, reports=[])
    made = []
    for version, kind, rest in parts:
        # NB: without its binding the policy holds nobody back, and every report could be patched.
        owner = in_force.binding if kind == "RoleBinding" else in_force.policy
        metadata = {
            "name": STAGES_ACCOUNT,
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER},
            "ownerReferences": [_reference_to(owner)],
        }
        made.append({"apiVersion": version, "kind": kind, "metadata": metadata, **rest})
    return made


def _reference_to(owner: Manifest) -> Manifest:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def _parts(name: str, namespace: str, *, reports: list[str]) -> list[tuple[str, str, Manifest]]:
    """Version, kind and content of what an account needs; no `reports` means all."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}
    rules = [rule | ({"resourceNames": reports} if reports else {})]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": name}
    return [
        ("v1", "ServiceAccount", {"automountServiceAccountToken": False}),
        (f"{_RBAC}/v1", "Role", {"rules": rules}),
        (f"{_RBAC}/v1", "RoleBinding", {"subjects": [subject], "roleRef": reference}),
    ]


def _is_as(there: Manifest, wanted: Manifest) -> bool:
    """Whether the object that is there says what is wanted, and belongs to the same owner."""
    is_equal = all(there.get(key) == value for key, value in wanted.items() if key != "metadata")
    return is_equal and owners_of(there) == owners_of(wanted) and not is_deleting(there)
