"""Which versions a deployment can serve merged, and which as adapters."""

import pytest

from deployment_world import a_spec
from exported import exported_format
from manifests import a_version
from tunesmith_api.modelversion import ModelVersion, ModelVersionSpec
from tunesmith_engine.deployment.version_fit import served_base, served_bytes, why_unfit

FILES = [{"name": "f", "uri": "s3://f", "digest": "x", "bytes": 7}]
ADAPTER = {
    "rank": 32,
    "baseUri": "file:///b",
    "baseDigest": f"sha256:{'b' * 64}",
    "baseBytes": 1000,
}


def record(**spec: object) -> ModelVersionSpec:
    return ModelVersion.model_validate(a_version(files=FILES, **spec)).spec


@pytest.mark.parametrize(
    ("version", "adapters", "told"),
    [
        ({}, None, None),
        ({"scheme": "adapter", "adapter": ADAPTER}, None, "set spec.adapters"),
        ({"adapter": ADAPTER}, None, None),
        ({"adapter": ADAPTER}, {"maxRank": 32}, None),
        ({"adapter": ADAPTER}, {"maxRank": 16}, "raise spec.adapters.maxRank"),
        ({}, {}, "output.artifact"),
    ],
)
def test_what_does_not_fit_is_told(
    version: dict[str, object], adapters: dict[str, object] | None, told: str | None
) -> None:
    why = why_unfit(record(**version), a_spec(adapters=adapters))

    assert (why is None) if told is None else (told in (why or ""))


def test_an_adapter_counts_as_large_as_its_base() -> None:
    both = record(adapter=ADAPTER)
    merged, adapters = a_spec(), a_spec(adapters={"maxRank": 32})

    assert (served_bytes(both, merged), served_base(both, merged)) == (7, None)
    assert served_bytes(both, adapters) == 1000
    base = served_base(both, adapters)
    assert base is not None
    assert base.uri == "file:///b"


def test_a_small_model_that_guesses_counts_for_every_replica() -> None:
    file = {**FILES[0], "name": "draft/model.safetensors", "bytes": 500}

    assert served_bytes(record_of([*FILES, file]), a_spec(adapters=None)) == 507


def record_of(files: list[dict[str, object]]) -> ModelVersionSpec:
    return ModelVersion.model_validate(a_version(files=files)).spec


def test_formats_for_devices_count_for_no_replica() -> None:
    exported = exported_format(path="exports/onnx-int4").model_dump(by_alias=True)
    file = {**FILES[0], "name": "exports/onnx-int4/model.onnx", "bytes": 500}
    version = ModelVersion.model_validate(a_version(files=[*FILES, file], exports=[exported])).spec

    assert served_bytes(version, a_spec(adapters=None)) == 7
