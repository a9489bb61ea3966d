"""The real API server judges as the models do, and as the tests' own stand-in for it."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings

from admission import refusals
from cluster import Cluster
from manifests import broken_jobs, jobs, schema_of
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.manifest import ManifestError, load_job

GENEROUS = settings(
    max_examples=150,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


def is_sound(manifest: dict[str, Any]) -> bool:
    try:
        load_job(json.dumps(manifest, ensure_ascii=False))
    except ManifestError:
        return False
    return True


def holds_null(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(holds_null, value.values() if isinstance(value, dict) else value))
    return value is None


@GENEROUS
@given(manifest=jobs() | broken_jobs())
def test_server_takes_exactly_what_the_models_read(dry: Cluster, manifest: dict[str, Any]) -> None:
    """Created or applied, the verdict on a manifest is the same as off-line.

    The server is of two minds about null: it creates as if the field were not given, and refuses to
    apply it. The models do as it does on creation.
    """
    wanted = is_sound(manifest)

    created = dry.create(manifest, dry_run=True)
    applied = dry.apply(manifest, dry_run=True)

    assert created.is_success == wanted, created.text
    assert applied.is_success == wanted or holds_null(manifest), applied.text
    assert (not refusals(schema_of("FineTuneJob"), manifest)) == wanted


@GENEROUS
@given(manifest=jobs())
def test_server_fills_in_the_defaults_of_the_models(dry: Cluster, manifest: dict[str, Any]) -> None:
    """What is stored is what `tunesmith plan` starts from."""
    created = dry.create(manifest, dry_run=True)

    if created.is_success:
        job = FineTuneJob.model_validate(manifest)
        wanted = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert created.json()["spec"] == wanted
