"""Which fields somebody has given that are not there any more."""

from typing import Any

import pytest

from tunesmith_operator.kube.lost_fields import lost_fields


def lost(owned: Any, spec: Any, *, operation: str = "Apply") -> list[str]:
    entries: list[dict[str, Any]] = [{"operation": "Apply", "fieldsV1": {"f:status": {}}}]
    entries += [{"operation": operation, "fieldsV1": {"f:spec": owned}}]
    return list(lost_fields({"metadata": {"managedFields": entries}, "spec": spec}))


def test_what_a_manager_has_set_and_is_not_there_is_named_by_its_path() -> None:
    owned: Any = {
        ".": {},
        "f:a": {},
        "f:training": {".": {}, "f:novelty": {}, "f:lora": {"f:rank": {}}},
    }

    assert lost(owned, {"a": 1, "training": {"lora": {}}}) == [
        "spec.training.novelty",
        "spec.training.lora.rank",
    ]


def test_a_field_that_is_gone_is_named_without_what_was_below_it() -> None:
    assert lost({"f:novelty": {"f:depth": {}}}, {}) == ["spec.novelty"]


def test_items_of_lists_have_no_fields_that_could_be_lost() -> None:
    owned = {"f:rows": {'k:{"name":"a"}': {".": {}, "f:name": {}}}, "f:tags": {'v:"a"': {}}}

    assert lost(owned, {"rows": [{"name": "a"}], "tags": ["a"]}) == []


def test_an_object_without_notes_of_managers_has_lost_nothing() -> None:
    assert list(lost_fields({"metadata": {}, "spec": {}})) == []
    assert list(lost_fields({"metadata": {"managedFields": [{"manager": "x"}]}})) == []


def test_of_what_was_created_nobody_knows_which_fields_are_defaults() -> None:
    assert lost({"f:novelty": {}}, {}, operation="Update") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"spec": {"training": {"novelty": 1, "seed": null}, "a": [{"b": 1}]}}', ["novelty"]),
        ('{"spec": null}', []),
        ("[]", []),
        ("?", []),
    ],
)
def test_what_kubectl_has_applied_by_itself_stands_in_its_annotation(
    text: str, found: list[str]
) -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": text}
    spec: Any = {"training": {}, "a": []}

    assert list(lost_fields({"metadata": {"annotations": annotations}, "spec": spec})) == [
        f"spec.training.{each}" for each in found
    ]
