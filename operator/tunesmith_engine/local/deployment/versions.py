"""The versions of a model in the home folder, as `publish` left them there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.manifest import ManifestError, load_resource
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modelversion import ModelVersion, ModelVersionSpec
from tunesmith_engine.capacity import memory_bytes
from tunesmith_engine.deployment.observations import AvailableVersion
from tunesmith_engine.deployment.version_fit import served_base, served_bytes, why_unfit
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, parse_manifest
from tunesmith_engine.stages.digests import path_of


class VersionFolders:
    """Reads the records of one model again and again; a record that has not changed, once."""

    def __init__(self, home: HomeFolder, *, spec: ModelDeploymentSpec) -> None:
        self._home = home
        self._spec = spec
        self._known: dict[Path, tuple[int, AvailableVersion]] = {}

    def read(self) -> tuple[AvailableVersion, ...]:
        """Every version that was published, sound or not.

        Raises:
            OSError: the folder cannot be read.
        """
        return tuple(self._read_all())

    def _read_all(self) -> Iterator[AvailableVersion]:
        for folder in self._home.versions(self._spec.model):
            # Written last, and only once: its time is that of the publication.
            published = (folder / MANIFEST).stat().st_mtime_ns
            known = self._known.get(folder)
            if known is None or known[0] != published:
                self._known[folder] = published, _read(folder, self._spec, published)
            yield self._known[folder][1]


def _read(folder: Path, spec: ModelDeploymentSpec, published: int) -> AvailableVersion:
    created = datetime.fromtimestamp(published / 1e9, tz=UTC)
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    if manifest is None:
        return _unusable(folder, created, f"{folder / MANIFEST} is no list of files")
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
        record = load_resource(text, ModelVersion, source=str(folder / RECORD)).spec
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        return _unusable(folder, created, f"its record cannot be read: {error}")
    num_bytes = served_bytes(record, spec)
    return AvailableVersion(
        version=record.version,
        digest=manifest.digest(),
        uri=folder.as_uri(),
        created=created,
        num_bytes=num_bytes,
        problem=_problem(record, folder, spec=spec, digest=manifest.digest())
        or _too_large(num_bytes),
        base=served_base(record, spec),
    )


def _problem(
    record: ModelVersionSpec, folder: Path, *, spec: ModelDeploymentSpec, digest: str
) -> str | None:
    if record.model != spec.model or record.version != folder.name:
        return (
            f"its record is of {record.model} {record.version}, its folder {folder}; a version "
            "stays in the folder where it was published"
        )
    if record.digest != digest:
        return f"{RECORD} and {MANIFEST} name different digests; publish it again"
    if why := why_unfit(record, spec):
        return why
    base = served_base(record, spec)
    if base is not None and not (path_of(base.uri) / MANIFEST).is_file():
        return f"its base is not at {base.uri}; run its job again"
    return None


def _too_large(num_bytes: int) -> str | None:
    room = memory_bytes()
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
