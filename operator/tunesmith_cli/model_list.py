"""The published versions of models, as the home folder and its jobs know them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.manifest import ManifestError, load_resource
from tunesmith_api.modelversion import ModelVersion
from tunesmith_cli.job_list import held_out_loss, stored_jobs
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, parse_manifest
from tunesmith_engine.stages.digests import path_of


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version: what it is, where it lies, and what made it.

    `problem` says why it cannot be used; what could not be read is empty or None.
    """

    model: str
    version: str
    uri: str
    published: datetime | None
    job: str = ""
    scheme: str = ""
    num_bytes: int | None = None
    loss: float | None = None
    problem: str = ""

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine."""
        return path_of(self.uri) if self.uri.startswith("file://") else None


def published_versions(home: HomeFolder) -> list[PublishedVersion]:
    """Every version below the home folder's models/, and those that its jobs published elsewhere.

    By model, the newest first.
    """
    versions = {version.uri: version for version in _elsewhere(home)}
    versions |= {version.uri: version for version in _here(home)}
    never = datetime.min.replace(tzinfo=UTC)
    newest_first = sorted(
        versions.values(), key=lambda version: version.published or never, reverse=True
    )
    return sorted(newest_first, key=lambda version: version.model)


def _here(home: HomeFolder) -> Iterator[PublishedVersion]:
    if not home.models.is_dir():
        return
    for model in sorted(path.name for path in home.models.iterdir() if path.is_dir()):
        for folder in home.versions(model):
            yield _read(folder, model=model)


def _elsewhere(home: HomeFolder) -> Iterator[PublishedVersion]:
    for job in stored_jobs(home):
        status = job.status
        for artifact in status.artifacts:
            if artifact.name != "version" or not status.model_version:
                continue
            model, _, version = status.model_version.rpartition("-")
            yield PublishedVersion(
                model=model,
                version=version,
                uri=artifact.uri,
                published=status.completion_time,
                job=job.name,
                num_bytes=artifact.bytes,
                loss=held_out_loss(status.evaluation),
                problem=_missing(artifact.uri),
            )


def _missing(uri: str) -> str:
    is_gone = uri.startswith("file://") and not path_of(uri).is_dir()
    return "its folder is gone" if is_gone else ""


def _read(folder: Path, *, model: str) -> PublishedVersion:
    # Written last, and only once: its time is that of the publication.
    published = datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, tz=UTC)
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
        record = load_resource(text, ModelVersion, source=str(folder / RECORD)).spec
        manifest = parse_manifest((folder / MANIFEST).read_bytes())
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        return PublishedVersion(
            model,
            folder.name,
            folder.as_uri(),
            published,
            problem=f"its record cannot be read: {error}",
        )
    return PublishedVersion(
        model=record.model,
        version=record.version,
        uri=folder.as_uri(),
        published=published,
        job=record.lineage.job,
        scheme=record.scheme,
        num_bytes=sum(file.bytes for file in manifest.files.values()) if manifest else None,
        loss=held_out_loss(record.evaluation),
        problem="" if manifest else f"{MANIFEST} is no list of files",
    )
