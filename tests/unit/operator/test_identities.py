"""Which identity the stages of a job get, and how often it is made."""

# ruff: noqa: ARG002 - a double takes what the real one takes
import asyncio
from copy import deepcopy
from typing import Any

import pytest

from tunesmith_operator.identities import Identities
from tunesmith_operator.manifests import Owner
from tunesmith_operator.names import REPORT_POLICY, STAGES_ACCOUNT

POLICY = "ValidatingAdmissionPolicy"
BINDING = "ValidatingAdmissionPolicyBinding"


class Double:
    """An API server that keeps what is applied, with the policy and its binding."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.applied: list[str] = []
        self.put_policy("u1")
        spec = {"policyName": REPORT_POLICY, "validationActions": ["Deny"]}
        self.objects[BINDING, "", REPORT_POLICY] = {"metadata": {"uid": "b"}, "spec": spec}

    def put_policy(self, uid: str) -> None:
        metadata = {"name": REPORT_POLICY, "uid": uid}
        found = {"apiVersion": "v1", "kind": POLICY, "metadata": metadata}
        self.objects[POLICY, "", REPORT_POLICY] = found

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return deepcopy(self.objects.get((kind, namespace, name)))

    async def warnings(self, namespace: str, *, of_uid: str) -> list[dict[str, Any]]:
        return []

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[dict[str, Any]]:
        raise AssertionError("nothing is listed here")

    async def patch_status(self, found: dict[str, Any], change: dict[str, Any]) -> None:
        raise AssertionError("no status is written here")

    async def apply(self, manifest: dict[str, Any]) -> None:
        meta = manifest["metadata"]
        self.objects[manifest["kind"], meta["namespace"], meta["name"]] = deepcopy(manifest)
        self.applied.append(f"{manifest['kind']} {meta['name']}")

    async def create(self, manifest: dict[str, Any]) -> None:
        raise AssertionError("identities are applied")

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: dict[str, Any] | None = None
    ) -> None:
        raise AssertionError("nothing is deleted here")

    async def workloads(self, namespace: str, *, of_uid: str) -> None:
        return None

    async def serves(self, kind: str) -> bool:
        return False


def accounts(double: Double, *jobs: str) -> list[str]:
    """The accounts that one operator gives to these jobs, all at once."""

    async def ask() -> list[str]:
        identities = Identities(double)
        owners = [Owner(name=job, namespace="ns", uid=job) for job in jobs]
        return list(await asyncio.gather(*map(identities.account_of, owners)))

    return asyncio.run(ask())


def test_the_shared_identity_is_made_once_whoever_asks() -> None:
    double = Double()

    assert accounts(double, "a", "b") + accounts(double, "c") == [STAGES_ACCOUNT] * 3
    assert double.applied == [
        f"{kind} {STAGES_ACCOUNT}" for kind in ("ServiceAccount", "Role", "RoleBinding")
    ]


def test_another_policy_becomes_the_owner() -> None:
    double = Double()
    accounts(double, "a")
    double.put_policy("u2")
    accounts(double, "a")

    role = double.objects["Role", "ns", STAGES_ACCOUNT]
    assert [each["uid"] for each in role["metadata"]["ownerReferences"]] == ["u2"]


@pytest.mark.parametrize("missing", [POLICY, BINDING])
def test_where_the_policy_is_not_in_force_a_job_has_its_own_identity(missing: str) -> None:
    double = Double()
    del double.objects[missing, "", REPORT_POLICY]

    assert accounts(double, "a", "b") == ["a-tunesmith", "b-tunesmith"]
    (rule,) = double.objects["Role", "ns", "a-tunesmith"]["rules"]
    assert (rule["verbs"], rule["resourceNames"]) == (["patch"], ["a-tunesmith"])


def test_a_binding_that_only_warns_is_none() -> None:
    double = Double()
    double.objects[BINDING, "", REPORT_POLICY]["spec"]["validationActions"] = ["Audit", "Warn"]

    assert accounts(double, "a") == ["a-tunesmith"]


def test_a_job_whose_name_could_be_taken_for_the_pod_of_another_has_its_own() -> None:
    assert accounts(Double(), "a--prepare-1") == ["a--prepare-1-tunesmith"]


def test_an_identity_that_is_gone_is_made_again_for_a_job_that_gets_no_pods() -> None:
    double = Double()
    account = "ServiceAccount", "ns", STAGES_ACCOUNT

    async def renewed() -> None:
        identities, owner = Identities(double), Owner(name="a", namespace="ns", uid="a")
        await identities.account_of(owner)
        del double.objects[account]
        await identities.renew(owner)

    asyncio.run(renewed())

    assert account in double.objects
