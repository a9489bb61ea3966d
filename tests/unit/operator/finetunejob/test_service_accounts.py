"""Which identity the stages of a job get, and how often it is made."""

import asyncio
from typing import Any

import pytest

from api_double import ApiDouble
from tunesmith_operator.finetunejob.child_names import REPORT_POLICY, STAGES_ACCOUNT
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.service_accounts import StageAccounts
from tunesmith_operator.kube.objects import MANAGER

POLICY = "ValidatingAdmissionPolicy"
BINDING = "ValidatingAdmissionPolicyBinding"


class Double(ApiDouble):
    """An API server with the policy and its binding, that notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written_names: list[str] = []
        self.put_policy("u1")
        spec = {"policyName": REPORT_POLICY, "validationActions": ["Deny"]}
        metadata = {"name": REPORT_POLICY}
        version = "admissionregistration.k8s.io/v1"
        self.put({"apiVersion": version, "kind": BINDING, "metadata": metadata, "spec": spec})

    def put_policy(self, uid: str) -> None:
        metadata = {"name": REPORT_POLICY, "uid": uid}
        self.put({"apiVersion": "v1", "kind": POLICY, "metadata": metadata})

    async def create(self, manifest: dict[str, Any]) -> bool:
        self.written_names.append(f"{manifest['kind']} {manifest['metadata']['name']}")
        return await super().create(manifest)

    async def apply(self, manifest: dict[str, Any], *, manager: str = MANAGER) -> None:
        await super().apply(manifest, manager=manager)
        self.written_names.append(f"{manifest['kind']} {manifest['metadata']['name']}")


def accounts(double: Double, *jobs: str) -> list[str]:
    """The accounts that one operator gives to these jobs, all at once."""

    async def ask() -> list[str]:
        identities = StageAccounts(double)
        owners = [JobRef(name=job, namespace="ns", uid=job) for job in jobs]
        return list(await asyncio.gather(*map(identities.account_of, owners)))

    return asyncio.run(ask())


def test_the_shared_identity_is_made_once_whoever_asks() -> None:
    double = Double()

    assert accounts(double, "a", "b") + accounts(double, "c") == [STAGES_ACCOUNT] * 3
    assert double.written_names == [
        f"{kind} {STAGES_ACCOUNT}" for kind in ("ServiceAccount", "Role", "RoleBinding")
    ]


def test_another_policy_becomes_the_owner() -> None:
    double = Double()
    accounts(double, "a")
    double.put_policy("u2")
    accounts(double, "a")

    role = double.objects["Role", "ns", STAGES_ACCOUNT]
    # The garbage collector takes away the one that is no more.
    assert "u2" in [each["uid"] for each in role["metadata"]["ownerReferences"]]


def test_the_right_goes_when_the_policy_or_its_binding_does() -> None:
    """A policy that nobody binds holds nobody back."""
    double = Double()
    accounts(double, "a")
    owners = {
        kind: double.objects[kind, "ns", STAGES_ACCOUNT]["metadata"]["ownerReferences"][0]["kind"]
        for kind in ("ServiceAccount", "Role", "RoleBinding")
    }

    assert owners == {"ServiceAccount": POLICY, "Role": POLICY, "RoleBinding": BINDING}


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
        identities, owner = StageAccounts(double), JobRef(name="a", namespace="ns", uid="a")
        await identities.account_of(owner)
        del double.objects[account]
        await identities.renew(owner)

    asyncio.run(renewed())

    assert account in double.objects
