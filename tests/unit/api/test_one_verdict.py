"""The CRD and the models are one definition: whatever one takes, the other takes."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from admission import refusals, with_defaults
from manifests import a_version, broken_jobs, jobs, schema_of, values_of
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.manifest import ManifestError, load_job
from tunesmith_api.modelversion import ModelVersionSpec

SCHEMA = schema_of("FineTuneJob")
STATUS = SCHEMA["properties"]["status"]
VERSION = schema_of("ModelVersion")["properties"]["spec"]
GENEROUS = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def problems_of(manifest: dict[str, Any]) -> list[str]:
    try:
        load_job(json.dumps(manifest, ensure_ascii=False))
    except ManifestError as error:
        return str(error).splitlines()
    return []


@GENEROUS
@given(manifest=jobs() | broken_jobs())
def test_schema_and_models_give_the_same_verdict(manifest: dict[str, Any]) -> None:
    """A manifest passes the CRD's schema and rules exactly if the models read it."""
    by_models, by_schema = problems_of(manifest), refusals(SCHEMA, manifest)

    assert bool(by_models) == bool(by_schema), (by_models, by_schema)


@GENEROUS
@given(manifest=jobs())
def test_schema_and_models_fill_in_the_same_defaults(manifest: dict[str, Any]) -> None:
    """What the server stores is what the models hold."""
    if problems_of(manifest):
        return

    stored = with_defaults(SCHEMA, manifest)["spec"]

    job = FineTuneJob.model_validate(manifest)
    assert stored == job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)


@GENEROUS
@given(status=values_of(STATUS))
def test_models_read_every_status_that_the_schema_lets_pass(status: dict[str, Any]) -> None:
    """The operator never stumbles over what the server stored."""
    assert not refusals(STATUS, status)

    FineTuneJobStatus.model_validate_json(json.dumps(status))


@GENEROUS
@given(spec=values_of(VERSION))
def test_models_read_every_version_that_the_schema_lets_pass(spec: dict[str, Any]) -> None:
    """A record in the cluster is a record off-line."""
    assert not refusals(VERSION, spec)

    ModelVersionSpec.model_validate_json(json.dumps(spec))


def test_versions_are_refused_alike() -> None:
    """A digest that is none is refused by both."""
    spec = a_version(digest="sha256:1")["spec"]

    assert refusals(VERSION, spec)
    with pytest.raises(ValidationError, match="digest"):
        ModelVersionSpec.model_validate(spec)
