"""publish: gather what earlier stages left into one folder, and bring it to its target whole.

Artifact: `version`, the published folder; its digest is the version's. Facts: `modelVersion`, the
ModelVersion as written beside the model, and `uri`. The same content is published once: a second
time it is only proven again. Nothing in the folder depends on the time or on a path of this
machine, except `model-version.yaml`, which the version's digest leaves out.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_api.modelversion import ModelVersion
from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.target import Target
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest, manifest_of
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.errors import StageError, VerdictError
from tunesmith_trainer.publish.folder import gather_version
from tunesmith_trainer.publish.record import version_record, write_record
from tunesmith_trainer.versions import library_versions

_NAME_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class _Version:
    """A version as it lies ready on this machine."""

    name: str
    folder: Path
    manifest: VersionManifest
    record: ModelVersion


def publish(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Bring the version to its target, or leave nothing there.

    Raises:
        BadInputError: the target holds another version of that name, or a secret is missing.
        VerdictError: the version could not be written whole.
        TransientError: the target cannot be reached.
        OSError: a disk is full.
    """
    reporter.progress("gathering the version")
    folder = Path(request.output) / "version"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        target = _target(request)
        version = _assemble(request, folder, target=target)
        is_new = target.deliver(
            version.folder,
            version.name,
            manifest=version.manifest,
            progress=lambda what, done, total: reporter.progress(
                what, step=done, total_steps=total
            ),
        )
    except SourceError as error:
        raise _as_stage_error(error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _outcome(version, is_new=is_new)


def _target(request: StageRequest) -> Target:
    output = request.spec.output
    secret = read_secret(output.secret_ref, secrets=Path(request.secrets))
    uri = output.uri or (Path(request.models) / output.model).as_uri()
    return open_target(uri, base=Path(request.base), secret=secret)


def _assemble(request: StageRequest, folder: Path, *, target: Target) -> _Version:
    gather_version(request, folder)
    digest = manifest_of(folder).digest()
    name = request.spec.output.version or digest.removeprefix("sha256:")[:_NAME_DIGITS]
    record = version_record(request, manifest_of(folder), version=name, uri=target.uri_of(name))
    write_record(record, folder)
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return _Version(name=name, folder=folder, manifest=manifest, record=record)


def _as_stage_error(error: SourceError) -> StageError:
    if error.reason is Reason.PUBLISH_FAILED:
        return VerdictError(error.reason, error.message)
    return as_stage_error(error)


def _outcome(version: _Version, *, is_new: bool) -> StageOutcome:
    uri = version.record.spec.uri
    size = sum(each.bytes for each in version.manifest.files.values())
    done = "published" if is_new else "already published, with the same content:"
    return StageOutcome(
        message=f"{done} {version.record.metadata.name} at {uri}",
        artifacts=[
            Artifact(
                name="version",
                uri=uri,
                digest=version.record.spec.digest,
                bytes=size + len(version.manifest.text().encode()),
            )
        ],
        facts={
            "modelVersion": version.record.model_dump(
                mode="json", by_alias=True, exclude_none=True
            ),
            "uri": uri,
        },
        versions=library_versions("tunesmith"),
    )
