"""The files of a version out of its image, as `image_target.py` has pushed it."""

import hashlib
import shutil
import tarfile
from pathlib import Path

from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import MODEL, SourceError, missing, translate_error
from tunesmith_engine.sources.image_layers import unpack
from tunesmith_engine.sources.image_target import repository_at
from tunesmith_engine.sources.registry import Registry


def pull_image(uri: str, *, secret: Secret, folder: Path) -> Path:
    """Unpack the image's models/ into `folder`, which is made anew, and return it.

    Raises:
        SourceError: it is not there, is denied, is damaged, or cannot be reached.
        OSError: the disk is full.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    registry, tag = repository_at(uri, secret=secret)
    archive = folder.with_suffix(".layer")
    try:
        published = registry.manifest(tag or "latest")
        if published is None:
            raise missing(uri, role=MODEL)  # noqa: TRY301 - cleaned up as after any failure
        for layer in published[1]["layers"]:
            _download(registry, layer["digest"], archive, size=layer["size"], uri=uri)
            unpack(archive, folder)
    except (SourceError, OSError):
        raise
    except (KeyError, tarfile.TarError) as error:
        raise missing(uri, role=MODEL, hint="the image there is none of Tunesmith's") from error
    except Exception as error:
        raise translate_error(error, uri=uri, role=MODEL) from error
    finally:
        archive.unlink(missing_ok=True)
    return folder


def _download(registry: Registry, digest: str, path: Path, *, size: int, uri: str) -> None:
    actual, left = hashlib.sha256(), size
    with path.open("wb") as file:
        for chunk in registry.blob(digest):
            actual.update(chunk)
            left -= len(chunk)
            if left < 0:
                break
            file.write(chunk)
    if left or f"sha256:{actual.hexdigest()}" != digest:
        raise SourceError(
            MODEL.missing, f"{uri}: the blob {digest} came with another content.", retryable=True
        )
