"""A spec lists its own sources and secrets, by the paths that keys, fingerprints and mounts use."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import Field

from manifests import Manifest, a_job, jobs
from tunesmith_api.base import ApiModel
from tunesmith_api.field_paths import dotted, record_at, record_paths, records_of
from tunesmith_api.field_types import SecretReference
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.spec import FineTuneJobSpec

SECRET = {"secretRef": {"name": "hub"}}
TEXT = {"uri": "s3://t/a.txt"}


class Step(ApiModel):
    """A record that stands in a list, and below a name of the user's own."""

    secret_ref: SecretReference | None = None


class Recipe(ApiModel):
    """A record that holds others in every way there is."""

    steps: list[Step] = Field(default_factory=list)
    by_name: dict[str, Step] = Field(default_factory=dict)
    last: Step | None = None


def spec_of(**spec: Any) -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate(a_job(**spec)["spec"])


def secrets_in(value: Any, path: str = "") -> Iterator[str]:
    """Found in the manifest itself, by the name of the field."""
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield from secrets_in(child, f"{path.removesuffix('.')}[{index}].")
    for name, child in value.items() if isinstance(value, dict) else ():
        if name == "secretRef" and child is not None:
            yield f"{path}{name}"
        else:
            yield from secrets_in(child, f"{path}{name}.")


def test_the_smallest_job_reads_a_model_and_training_rows() -> None:
    spec = spec_of()

    assert spec.sources() == {"model": spec.model, "dataset.train": spec.dataset.train}
    assert spec.secret_references() == {}


def test_sources_stand_in_the_order_of_their_fields() -> None:
    """A source that is missing is told of in the same order each time."""
    spec = spec_of(dataset={"train": TEXT, "validation": TEXT}, evaluation={"generalText": TEXT})

    assert list(spec.sources()) == [
        "model",
        "dataset.train",
        "dataset.validation",
        "evaluation.generalText",
    ]
    assert isinstance(spec.sources()["model"], ModelSource)
    assert isinstance(spec.sources()["evaluation.generalText"], DataSource)


def test_secrets_are_those_of_sources_output_and_workspace() -> None:
    """A secret for pulling images is the cluster's matter: no stage reads it."""
    spec = spec_of(
        model={"uri": "hf://a/b", **SECRET},
        dataset={"train": {**TEXT, **SECRET}},
        output={"model": "m", "uri": "s3://models", "secretRef": {"name": "store"}},
        workspace={"uri": "s3://jobs", **SECRET},
        resources={"imagePullSecrets": [{"name": "registry"}]},
    )

    assert {path: secret.name for path, secret in spec.secret_references().items()} == {
        "model.secretRef": "hub",
        "dataset.train.secretRef": "hub",
        "output.secretRef": "store",
        "workspace.secretRef": "hub",
    }


@settings(max_examples=40)
@given(manifest=jobs())
def test_no_secret_of_any_job_is_overlooked(manifest: Manifest) -> None:
    """A new field with credentials is mounted without being named anywhere."""
    spec = FineTuneJobSpec.model_validate(manifest["spec"])

    assert set(spec.secret_references()) == set(secrets_in(manifest["spec"]))


def test_records_in_lists_and_mappings_have_paths_of_their_own() -> None:
    step = {"secretRef": {"name": "a"}}
    recipe = Recipe.model_validate({"steps": [{}, step], "byName": {"x": step}, "last": step})

    assert [dotted(path) for path, _ in records_of(recipe, SecretReference)] == [
        "steps[1].secretRef",
        "byName.x.secretRef",
        "last.secretRef",
    ]


@pytest.mark.parametrize(
    ("path", "record"),
    [
        (("steps", 1), Step),
        (("steps", 1, "secretRef"), SecretReference),
        (("byName", "last"), Step),
        (("byName", "x", "secretRef"), SecretReference),
        (("last", "x"), None),
    ],
)
def test_the_record_at_a_path_is_the_one_that_holds_its_fields(
    path: tuple[str | int, ...], record: type[ApiModel] | None
) -> None:
    """The names of a mapping are the user's own, although one may be called like a field."""
    assert record_at(Recipe, path) is record


def test_a_type_says_where_records_can_be() -> None:
    """Rules take their scopes from it, and the CRD knows a list's items by a star."""
    assert list(record_paths(Recipe, Step)) == ["steps.*", "byName", "last"]
    assert list(record_paths(FineTuneJobSpec, ModelSource, DataSource)) == [
        "model",
        "dataset.train",
        "dataset.validation",
        "dataset.cleaning.contamination.against.*",
        "dataset.replay.source",
        "dataset.augmentation.adversarial.sensitive",
        "dataset.synthesis.generator.model",
        "training.distillation.teacher.model",
        "evaluation.generalText",
        "evaluation.fairness.suites.*.source",
        "evaluation.fairness.suites.*.classifier.model",
    ]
