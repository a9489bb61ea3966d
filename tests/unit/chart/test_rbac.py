"""Rights: the chart grants what the operator's table asks for, and not one verb more."""

from typing import Any

import pytest

from chart import Manifest, rendered
from tunesmith_api.kinds import KINDS
from tunesmith_operator.permissions import PERMISSIONS

Right = tuple[str, str, str]
ROLES = {"Role", "ClusterRole"}


def asked(scope: str) -> set[Right]:
    """Group, resource and verb of everything in the table."""
    return {
        (each.group, resource, verb)
        for each in PERMISSIONS
        if each.scope == scope
        for resource in each.resources
        for verb in each.verbs
    }


def granted(role: Manifest) -> set[Right]:
    """Group, resource and verb of everything that a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def bound_roles(values: dict[str, Any]) -> list[Manifest]:
    """The roles that a binding gives to the operator."""
    objects = rendered(values, namespace="ml")
    bindings = [each for each in objects if each["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    subject = {"kind": "ServiceAccount", "name": "tunesmith", "namespace": "ml"}
    assert all(each["subjects"] == [subject] for each in bindings)
    wanted = {
        (each["roleRef"]["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"])
        for each in bindings
    }
    return [each for each in objects if each["kind"] in ROLES and _key(each) in wanted]


def _key(role: Manifest) -> tuple[str, str | None, str]:
    return role["kind"], role["metadata"].get("namespace"), role["metadata"]["name"]


def test_for_every_namespace_one_cluster_role_and_one_role_for_the_lease() -> None:
    roles = {_key(each): granted(each) for each in bound_roles({})}

    assert roles == {
        ("ClusterRole", None, "tunesmith-jobs"): asked("jobs"),
        ("ClusterRole", None, "tunesmith-policy"): asked("cluster"),
        ("Role", "ml", "tunesmith"): asked("own"),
    }


def test_rights_in_the_cluster_are_to_objects_by_name() -> None:
    (role,) = (each for each in bound_roles({}) if each["metadata"]["name"] == "tunesmith-policy")
    names = {name for each in PERMISSIONS if each.scope == "cluster" for name in each.names}

    assert {name for rule in role["rules"] for name in rule["resourceNames"]} == names
    assert all(each.names for each in PERMISSIONS if each.scope == "cluster")


def test_for_named_namespaces_a_role_in_each_and_in_the_cluster_a_look_at_the_policy() -> None:
    roles = {_key(each): granted(each) for each in bound_roles({"namespaces": ["a", "b"]})}

    assert roles.pop(("ClusterRole", None, "tunesmith-policy")) == asked("cluster")
    assert roles == {
        ("Role", "a", "tunesmith-jobs"): asked("jobs"),
        ("Role", "b", "tunesmith-jobs"): asked("jobs"),
        ("Role", "ml", "tunesmith"): asked("own"),
    }


def test_who_has_no_rights_in_the_cluster_can_install_the_rest() -> None:
    values = {"namespaces": ["a"], "crds": {"enabled": False}, "rbac": {"aggregate": False}}
    kinds = {each["kind"] for each in rendered(values)}

    assert kinds & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"} == set()
    assert not any(kind.startswith("Validating") for kind in kinds)


@pytest.mark.parametrize("values", [{}, {"namespaces": ["a"]}])
def test_no_rule_is_wild_and_none_reads_secrets(values: dict[str, Any]) -> None:
    for role in bound_roles(values):
        for group, resource, verb in granted(role):
            assert "*" not in {group, resource, verb}
            assert resource != "secrets"


def test_people_who_may_edit_a_namespace_may_edit_jobs_but_not_their_status() -> None:
    roles = {
        label: each
        for each in rendered()
        if each["kind"] == "ClusterRole"
        for label in each["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }
    edit = granted(roles["rbac.authorization.k8s.io/aggregate-to-edit"])
    view = granted(roles["rbac.authorization.k8s.io/aggregate-to-view"])

    assert {resource for _, resource, _ in edit} == {kind.plural for kind in KINDS}
    assert {verb for _, _, verb in view} == {"get", "list", "watch"}
    assert edit == granted(roles["rbac.authorization.k8s.io/aggregate-to-admin"])
