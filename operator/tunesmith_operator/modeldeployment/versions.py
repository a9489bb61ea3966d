"""From the ModelVersions of a namespace to what can be served of them."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import ValidationError

from tunesmith_api.field_paths import dotted
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modelversion import PUBLISHED_ANNOTATION, ModelVersion
from tunesmith_api.validation_errors import error_message, error_path
from tunesmith_engine.deployment.observations import AvailableVersion
from tunesmith_engine.deployment.version_fit import served_base, served_bytes, why_unfit
from tunesmith_operator.kube.objects import Manifest, created_at, is_deleting, time_of
from tunesmith_operator.modeldeployment.model_files import why_not_loaded, why_unreachable
from tunesmith_operator.modeldeployment.serving_pod import given_bytes


def available_versions(
    manifests: Iterable[Manifest], spec: ModelDeploymentSpec, *, has_gateway: bool
) -> tuple[AvailableVersion, ...]:
    """The versions of the deployment's model; each with what keeps it from being served.

    `has_gateway`: requests come through the Gateway that the spec names.
    """
    return tuple(
        _available(manifest, spec, has_gateway=has_gateway)
        for manifest in manifests
        if model_of(manifest) == spec.model and not is_deleting(manifest)
    )


def model_of(manifest: Manifest) -> str | None:
    """The model of a ModelVersion or a ModelDeployment, whether or not it can be read."""
    model: str | None = (manifest.get("spec") or {}).get("model")
    return model


def published_at(manifest: Manifest) -> datetime:
    """When the version was published; without a word of that, when its record was made."""
    text = (manifest["metadata"].get("annotations") or {}).get(PUBLISHED_ANNOTATION, "")
    try:
        time = time_of(text)
    except ValueError:
        return created_at(manifest)
    # Times without a zone are not comparable with those that have one.
    return time if time.tzinfo is not None else created_at(manifest)


def _available(
    manifest: Manifest, spec: ModelDeploymentSpec, *, has_gateway: bool
) -> AvailableVersion:
    record = manifest["spec"]
    try:
        version = ModelVersion.model_validate(manifest).spec
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        told = f"{dotted(error_path(first))}: {error_message(first, model=ModelVersion)}"
        return AvailableVersion(
            version=str(record.get("version", manifest["metadata"]["name"])),
            digest=str(record.get("digest", "")),
            uri=str(record.get("uri", "")),
            created=published_at(manifest),
            num_bytes=0,
            problem=f"its record cannot be read ({told})",
        )
    num_bytes, base = served_bytes(version, spec), served_base(version, spec)
    claim = spec.storage.claim_name or version.claim_name
    return AvailableVersion(
        version=version.version,
        digest=version.digest,
        uri=version.uri,
        created=published_at(manifest),
        num_bytes=num_bytes,
        claim_name=version.claim_name,
        problem=why_unfit(version, spec)
        or why_unreachable(version.uri, claim_name=claim)
        or (base and why_not_loaded(version.uri, base.uri, has_gateway=has_gateway))
        or _too_large(num_bytes, spec),
        base=base,
    )


def _too_large(num_bytes: int, spec: ModelDeploymentSpec) -> str | None:
    memory = spec.resources.memory
    # Weights may lie in the memory of accelerators, of which nobody says here how much there is.
    if memory is None or spec.resources.gpus_per_replica or num_bytes < given_bytes(memory):
        return None
    return (
        f"its files have {num_bytes / (1 << 20):,.0f} MiB, and resources.memory gives each replica "
        f"{memory}; raise it"
    )
