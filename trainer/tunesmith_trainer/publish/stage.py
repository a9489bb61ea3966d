"""publish: gather what earlier stages left into one folder, and bring it to its target whole.

Artifact: `version`, the published folder; its digest is the version's. Facts: `modelVersion`, the
ModelVersion as written beside the model, `uri`, and `resolved`. The same content is published once:
a second time it is only proven again. Nothing in the folder depends on the time or on a path of
this machine, except `model-version.yaml`, which the version's digest leaves out.
"""

import shutil
from pathlib import Path
from typing import Final

from tunesmith_api.modelversion import ModelVersion, record_content
from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact
from tunesmith_api.yaml_io import write_yaml
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.target import Target
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, VersionManifest, manifest_of
from tunesmith_engine.sources.version_signature import Signer, read_signer
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.publish.base_folder import deliver_base
from tunesmith_trainer.publish.model_version import version_record
from tunesmith_trainer.publish.published_base import PublishedBase
from tunesmith_trainer.publish.signed_folder import signed_manifest
from tunesmith_trainer.publish.version_folder import gather_version
from tunesmith_trainer.search.cluster_memory import remember_in_store
from tunesmith_trainer.versions import library_versions

# 48 bits: two of a million versions of one model share a name in one case of five hundred, and then
# the second is refused.
_NAME_DIGITS: Final = 12


def publish(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Bring the version to its target, or leave nothing there.

    Raises:
        BadInputError: the target holds another version of that name, or a secret is missing.
        VerdictError: the version could not be written whole.
        TransientError: the target cannot be reached.
        OSError: a disk is full.
    """
    reporter.progress("gathering the version")
    output, folder = request.spec.output, Path(request.output) / "version"
    uri = output.uri or (Path(request.models) / output.model).as_uri()
    base_folder = Path(request.output) / "base"

    def tell(what: str, done: int, total: int) -> None:
        reporter.progress(what, step=done, total_steps=total)

    # What a killed attempt left: a file more in the folder would be published with it.
    for leftover in (folder, base_folder):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        secret = read_secret(output.secret_ref, secrets=Path(request.secrets))
        target = open_target(uri, base=Path(request.base), secret=secret, private=output.private)
        signer = _signer(request)
        base = (
            deliver_base(request, base_folder, uri=uri, secret=secret, signer=signer, progress=tell)
            if output.has_adapter
            else None
        )
        record, manifest = assemble_version(
            request, folder, target=target, base=base, signer=signer
        )
        # Whole or not at all: a folder renames the finished version into its place, an object
        # store, which cannot rename, gets `manifest.json` last (`sources/*_target.py`).
        is_new = target.deliver(
            folder,
            record.spec.version,
            manifest=manifest,
            progress=tell,
        )
    except SourceError as error:
        if error.reason is Reason.PUBLISH_FAILED:
            raise VerdictError(error.reason, error.message) from error
        raise as_stage_error(error) from error
    finally:
        for made in (folder, base_folder):
            shutil.rmtree(made, ignore_errors=True)
    done = "published" if is_new else "already published, with the same content:"
    num_bytes = sum(file.bytes for file in manifest.files.values()) + len(manifest.text().encode())
    return StageOutcome(
        message=f"{done} {record.metadata.name} at {record.spec.uri}",
        artifacts=[
            Artifact(
                name="version", uri=record.spec.uri, digest=record.spec.digest, bytes=num_bytes
            )
        ],
        facts={
            "modelVersion": record_content(record),
            "uri": record.spec.uri,
            "resolved": {"output.uri": uri, "output.version": record.spec.version},
        },
        versions=library_versions("tunesmith"),
        warnings=remember_in_store(request),
    )


def _signer(request: StageRequest) -> Signer | None:
    signing = request.spec.output.signing
    if signing is None:
        return None
    return read_signer(read_secret(signing.secret_ref, secrets=Path(request.secrets)))


def assemble_version(
    request: StageRequest,
    folder: Path,
    *,
    target: Target,
    base: PublishedBase | None = None,
    signer: Signer | None = None,
) -> tuple[ModelVersion, VersionManifest]:
    """Fill `folder` with all that the version has; return its record and its manifest.

    Raises:
        VerdictError: PublishFailed, the model's folder holds a file that can run code.
        OSError: the disk is full, or an artifact is gone.
    """
    # NB: the order. The digest covers what is gathered and names the version; the record holds
    # digest and name, so it comes after and the digest leaves it out; the manifest lists the
    # record, so it comes last.
    gather_version(request, folder, base=base.digest if base else None)
    gathered = signed_manifest(folder, signer)
    name = request.spec.output.version or gathered.digest().removeprefix("sha256:")[:_NAME_DIGITS]
    record = version_record(request, gathered, version=name, uri=target.uri_of(name), base=base)
    (folder / RECORD).write_text(write_yaml(record_content(record)), encoding="utf-8")
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return record, manifest
