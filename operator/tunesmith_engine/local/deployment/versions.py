"""The versions of a model in the home folder, as `publish` left them there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.manifest import ManifestError, load_resource
from tunesmith_api.modelversion import ModelVersion, ModelVersionSpec
from tunesmith_engine.capacity import memory_bytes
from tunesmith_engine.deployment.observations import AvailableVersion
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, parse_manifest


class VersionFolders:
    """Reads the records of one model again and again; a record that has not changed, once."""

    def __init__(self, home: HomeFolder, *, model: str) -> None:
        self._home = home
        self._model = model
        self._known: dict[Path, tuple[int, AvailableVersion]] = {}

    def read(self) -> tuple[AvailableVersion, ...]:
        """Every version that was published, sound or not.

        Raises:
            OSError: the folder cannot be read.
        """
        return tuple(self._read_all())

    def _read_all(self) -> Iterator[AvailableVersion]:
        for folder in self._home.versions(self._model):
            # Written last, and only once: its time is that of the publication.
            published = (folder / MANIFEST).stat().st_mtime_ns
            known = self._known.get(folder)
            if known is None or known[0] != published:
                self._known[folder] = published, _read(folder, self._model, published)
            yield self._known[folder][1]


def _read(folder: Path, model: str, published: int) -> AvailableVersion:
    created = datetime.fromtimestamp(published / 1e9, tz=UTC)
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    if manifest is None:
        return _unusable(folder, created, f"{folder / MANIFEST} is no list of files")
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
        record = load_resource(text, ModelVersion, source=str(folder / RECORD)).spec
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        return _unusable(folder, created, f"its record cannot be read: {error}")
    return AvailableVersion(
        version=record.version,
        digest=manifest.digest(),
        uri=folder.as_uri(),
        created=created,
        num_bytes=sum(file.bytes for file in manifest.files.values()),
        problem=_problem(record, folder, model=model, digest=manifest.digest()),
    )


def _problem(record: ModelVersionSpec, folder: Path, *, model: str, digest: str) -> str | None:
    if record.model != model or record.version != folder.name:
        return (
            f"its record is of {record.model} {record.version}, its folder {folder}; a version "
            "stays in the folder where it was published"
        )
    if record.digest != digest:
        return f"{RECORD} and {MANIFEST} name different digests; publish it again"
    num_bytes, room = sum(file.bytes for file in record.files), memory_bytes()
    if num_bytes > room:
        return f"its files have {num_bytes:,} bytes, and this machine has {room:,} of memory"
    return None


def _unusable(folder: Path, created: datetime, problem: str) -> AvailableVersion:
    return AvailableVersion(
        version=folder.name,
        digest="",
        uri=folder.as_uri(),
        created=created,
        num_bytes=0,
        problem=problem,
    )
