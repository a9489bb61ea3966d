"""Reads a published version and proves that it is still what was published."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_engine.stages.digests import digest_file, files_below
from tunesmith_serving.settings import ServingSettings

MANIFEST = "manifest.json"
SETTINGS = "serving.json"
Record = TypeVar("Record", bound=ApiModel)


class ServeError(Exception):
    """The folder or the address cannot be served; the message says why and what to do."""


class PublishedFile(ApiModel):
    """A file of the version."""

    digest: str
    bytes: int


class Manifest(ApiModel):
    """The content of `manifest.json`: every file of the version but itself, by relative path."""

    files: dict[str, PublishedFile] = Field(min_length=1)


def read_published(folder: Path) -> ServingSettings:
    """The settings of the version in `folder`, once all of its files were found unchanged.

    Raises:
        ServeError: it is no published version, or no longer the one that was published.
    """
    manifest = _read(folder / MANIFEST, Manifest)
    changes = list(_changes(folder, manifest.files))
    if changes:
        raise ServeError(
            f"{folder} is not what was published: {'; '.join(changes)}. Publish the model again, "
            "or restore the folder."
        )
    return _read(folder / SETTINGS, ServingSettings)


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ServeError(
            f"{path.parent} is not a published version: it has no {path.name}. Give the folder of "
            "a version, such as ~/.tunesmith/models/MODEL/VERSION."
        ) from None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ServeError(f"{path} cannot be read: {error}") from error


def _changes(folder: Path, files: Mapping[str, PublishedFile]) -> Iterator[str]:
    """Sizes before digests: most damage shows without reading gigabytes."""
    found = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    yield from (f"{name} is missing" for name in sorted(files.keys() - found.keys()))
    # A weight file that nobody judged would be loaded like the others.
    yield from (f"{name} was added" for name in sorted(found.keys() - files.keys() - {MANIFEST}))
    for name in sorted(files.keys() & found.keys()):
        if found[name].stat().st_size != files[name].bytes:
            yield f"{name} has {found[name].stat().st_size} bytes instead of {files[name].bytes}"
        elif digest_file(found[name]) != files[name].digest:
            yield f"{name} has another digest"
