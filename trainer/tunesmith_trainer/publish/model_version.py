"""The ModelVersion of a version, and what the version was made from.

`model-version.yaml` is the record that people, clusters and monitors read. Its lineage is enough to
make the model again, and to see whether one did.
"""

import re
from typing import Final
from urllib.parse import quote

from pydantic import TypeAdapter

from tunesmith_api.modelversion import Adapter, Lineage, ModelVersion, ModelVersionSpec, VersionMeta
from tunesmith_api.results import Artifact, ExportedFormat
from tunesmith_engine.sources.adapter_version import ADAPTER_SCHEME
from tunesmith_engine.sources.version_manifest import VersionManifest
from tunesmith_engine.stages.catalog import CATALOG, COMPRESS, EXPORT, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.publish.published_base import PublishedBase
from tunesmith_trainer.publish.version_facts import all_results

# What a monitor compares with; the catalogue says under which name `publish` copies it.
_FINGERPRINTS: Final = next(
    document.file for document in VERIFY.published if document.artifact == "fingerprints"
)
# Where huggingface_hub keeps the files of a commit in its cache.
_SNAPSHOT: Final = re.compile(r"/snapshots/([0-9a-f]{40})")


def version_record(
    request: StageRequest,
    manifest: VersionManifest,
    *,
    version: str,
    uri: str,
    base: PublishedBase | None = None,
) -> ModelVersion:
    """The record of the files in `manifest`, which lie, or will lie, below `uri`.

    `base` is what its adapter runs on, where it has one.
    """
    model, is_alone = request.spec.output.model, request.spec.output.artifact == "adapter"
    scheme = ADAPTER_SCHEME if is_alone else str(request.inputs[COMPRESS.name].facts["scheme"])
    return ModelVersion(
        metadata=VersionMeta(name=f"{model}-{version}"),
        spec=ModelVersionSpec(
            model=model,
            version=version,
            uri=uri,
            digest=manifest.digest(),
            scheme=scheme,
            files=[
                Artifact(
                    name=name, uri=f"{uri}/{quote(name)}", digest=file.digest, bytes=file.bytes
                )
                for name, file in sorted(manifest.files.items())
            ],
            lineage=lineage_of(request),
            evaluation=all_results(request),
            adapter=_adapter(request, base) if base else None,
            exports=exported_formats(request),
            fingerprints=_FINGERPRINTS,
        ),
    )


def _adapter(request: StageRequest, base: PublishedBase) -> Adapter:
    return Adapter(
        rank=request.spec.training.lora.rank,
        base_uri=base.uri,
        base_digest=base.digest,
        base_bytes=base.num_bytes,
    )


def exported_formats(request: StageRequest) -> list[ExportedFormat]:
    """The formats for devices, where the job makes any."""
    result = request.inputs.get(EXPORT.name)
    told = result.facts["formats"] if result else []
    return TypeAdapter(list[ExportedFormat]).validate_python(told)


def lineage_of(request: StageRequest) -> Lineage:
    """The lineage of the version that the job makes.

    `hyperparameters` are what `train` resolved, by their paths below `spec`.
    """
    spec, prepared = request.spec, request.inputs[PREPARE.name]
    resolved = request.inputs[TRAIN.name].facts.get("resolved")
    values = resolved if isinstance(resolved, dict) else {}
    # The commit of a hub's model, else the digest of the model as it was read.
    commit = _SNAPSHOT.search(prepared.artifact("model").uri)
    parent = prepared.facts.get("parentDigest")
    return Lineage(
        job=request.job,
        base_model=spec.model.uri,
        parent_digest=str(parent) if parent else None,
        base_revision=commit.group(1) if commit else str(prepared.facts["modelDigest"]),
        data_digest=str(prepared.facts["dataDigest"]),
        seeds={"dataset.seed": spec.dataset.seed, "training.seed": spec.training.seed},
        hyperparameters={path: str(value) for path, value in values.items()},
        versions={
            f"{stage}/{library}": number
            for stage in CATALOG.names
            if stage in request.inputs
            for library, number in sorted(request.inputs[stage].versions.items())
        },
        stage_keys={**request.stage_keys, request.stage: request.key},
    )
