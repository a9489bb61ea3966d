"""`manifest.json` of a folder that was written whole: every file but itself, with digest and size.

A folder is a published version, or a snapshot in the workspace, if and only if it has this file,
which is therefore written last and removed first. Both targets and `workspace_store.py` use it.
"""

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, JsonValue, ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_engine.sources.local_paths import stays_below
from tunesmith_engine.stages.digests import digest_file, digest_json, files_below

MANIFEST: Final = "manifest.json"
# Its text holds the version's digest and address, so the digest cannot cover it.
RECORD: Final = "model-version.yaml"
# Of that digest, so it cannot be digested (`version_signature.py`).
SIGNATURE: Final = "version.sig"
# Below it are formats for devices, which no server reads.
EXPORTS: Final = "exports"
# Where a small model lies that guesses tokens for the served one.
DRAFT_FOLDER: Final = "draft"


def _is_exported(name: str) -> bool:
    return name.startswith(f"{EXPORTS}/")


def _below(name: str) -> str:
    if not stays_below(name):
        raise ValueError("it leads out of the folder")
    return name


# Readers join it to a folder, and some of them write there.
FileName = Annotated[str, AfterValidator(_below)]


class VersionFile(ApiModel):
    """A file of the version."""

    digest: str
    bytes: int


class VersionManifest(ApiModel):
    """Files by relative path, with / between its parts."""

    files: dict[FileName, VersionFile] = Field(min_length=1)

    def digest(self) -> str:
        """The version's digest: of every file but its record and signature, in order of path."""
        content: list[JsonValue] = [
            [name, self.files[name].digest]
            for name in sorted(self.files)
            if name not in {RECORD, SIGNATURE}
        ]
        return digest_json(content)

    def served(self) -> dict[str, VersionFile]:
        """The files that a server needs."""
        return {name: file for name, file in self.files.items() if not _is_exported(name)}

    def text(self) -> str:
        """The same files give the same text."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def manifest_of(folder: Path) -> VersionManifest:
    """Digest every file below `folder` but the manifest itself.

    Raises:
        OSError: a file cannot be read.
        ValueError: there is none.
    """
    return VersionManifest(files=version_files(folder))


def version_files(folder: Path) -> dict[str, VersionFile]:
    """What a manifest says of the files below `folder`, of which there may be none.

    Raises:
        OSError: a file cannot be read.
    """
    files = {
        path.relative_to(folder).as_posix(): VersionFile(
            digest=digest_file(path), bytes=path.stat().st_size
        )
        for path in files_below(folder)
    }
    files.pop(MANIFEST, None)
    return files


def parse_manifest(text: bytes) -> VersionManifest | None:
    """Read a manifest; None where `text` is none, or names a file outside of its folder."""
    try:
        return VersionManifest.model_validate_json(text)
    except ValidationError:
        return None
