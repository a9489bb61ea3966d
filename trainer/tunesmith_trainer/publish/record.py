"""The ModelVersion of a version: the record that people, clusters and monitors read."""

from pathlib import Path
from urllib.parse import quote

from tunesmith_api.modelversion import ModelVersion, ModelVersionSpec, VersionMeta
from tunesmith_api.results import Artifact
from tunesmith_api.yaml_io import write_yaml
from tunesmith_engine.sources.version_manifest import RECORD, VersionManifest
from tunesmith_engine.stages.catalog import COMPRESS
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.publish.evidence import all_results
from tunesmith_trainer.publish.folder import FINGERPRINTS
from tunesmith_trainer.publish.lineage import lineage_of


def version_record(
    request: StageRequest, manifest: VersionManifest, *, version: str, uri: str
) -> ModelVersion:
    """The record of the files in `manifest`, which lie, or will lie, below `uri`."""
    model = request.spec.output.model
    return ModelVersion(
        metadata=VersionMeta(name=f"{model}-{version}"),
        spec=ModelVersionSpec(
            model=model,
            version=version,
            uri=uri,
            digest=manifest.digest(),
            scheme=str(request.inputs[COMPRESS.name].facts["scheme"]),
            files=[
                Artifact(
                    name=name, uri=f"{uri}/{quote(name)}", digest=file.digest, bytes=file.bytes
                )
                for name, file in sorted(manifest.files.items())
            ],
            lineage=lineage_of(request),
            evaluation=all_results(request),
            fingerprints=FINGERPRINTS,
        ),
    )


def write_record(record: ModelVersion, folder: Path) -> None:
    """Write `model-version.yaml`, which kubectl applies as it is."""
    content = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    (folder / RECORD).write_text(write_yaml(content), encoding="utf-8")
