"""The files of an adapter's version, proven before the engine reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunesmith_engine.deployment.adapter_list import WantedAdapter
from tunesmith_engine.drift.sketches import REFERENCE_FILE
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_FINGERPRINTS,
    ADAPTER_FOLDER,
    ADAPTER_RECORD,
    AdapterRecord,
)
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest, parse_manifest
from tunesmith_engine.sources.version_signature import why_unsigned
from tunesmith_engine.stages.catalog import VERIFY
from tunesmith_engine.stages.digests import digest_file, files_below

_FINGERPRINTS = next(
    document.file for document in VERIFY.published if document.artifact == "fingerprints"
)


class AdapterRefused(Exception):  # noqa: N818 - a verdict on the adapter, which is reported by its name
    """The adapter cannot be loaded here; the message says why."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """Where the engine finds the adapter, and the middleware what it must answer."""

    folder: Path
    fingerprints: Path


def prove_adapter(
    wanted: WantedAdapter, *, base_digest: str, public_keys: Sequence[str] = ()
) -> AdapterFiles:
    """The files of the adapter, once all that is used of its version was found unchanged.

    A merged model that lies beside it is left alone.

    Raises:
        AdapterRefused: they are not what was published, are for another base, or are signed with
            none of the `public_keys`, if there are any.
        OSError: they cannot be read now.
    """
    version = Path(wanted.folder)
    manifest = parse_manifest((version / MANIFEST).read_bytes())
    if manifest is None or manifest.digest() != wanted.digest:
        raise AdapterRefused(f"its folder does not hold {wanted.digest}")
    _require_signature(version, manifest, public_keys)
    used = {
        name: file
        for name, file in manifest.files.items()
        if name.startswith(f"{ADAPTER_FOLDER}/")
        or name in {ADAPTER_RECORD, ADAPTER_FINGERPRINTS, _FINGERPRINTS, REFERENCE_FILE}
    }
    there = {path.relative_to(version).as_posix() for path in files_below(version / ADAPTER_FOLDER)}
    if added := there - used.keys():
        raise AdapterRefused(f"{min(added)} was added to it")
    for name, file in used.items():
        path = version / name
        if not path.is_file() or digest_file(path) != file.digest:
            raise AdapterRefused(f"{name} is not what was published")
    if ADAPTER_RECORD not in used:
        raise AdapterRefused("its version was published without an adapter")
    try:
        record = AdapterRecord.model_validate_json((version / ADAPTER_RECORD).read_bytes())
    except ValidationError:
        raise AdapterRefused(f"its {ADAPTER_RECORD} cannot be read") from None
    if record.base_digest != base_digest:
        raise AdapterRefused(f"it is for the base {record.base_digest}, and here is {base_digest}")
    known = ADAPTER_FINGERPRINTS if ADAPTER_FINGERPRINTS in used else _FINGERPRINTS
    return AdapterFiles(version / ADAPTER_FOLDER, version / known)


def _require_signature(version: Path, manifest: VersionManifest, keys: Sequence[str]) -> None:
    try:
        why = why_unsigned(version, manifest, keys) if keys else None
    except ValueError as error:
        why = str(error)
    if why:
        raise AdapterRefused(why)
