"""Digests of what stages make: the same bytes give the same digest on every machine."""

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from tunesmith_api.results import Artifact

_CHUNK_BYTES = 1 << 20


def digest_file(path: Path) -> str:
    """`sha256:` and 64 hexadecimal digits of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def digest_json(value: JsonValue) -> str:
    """Digest of a JSON value, whatever the order of its keys."""
    # NB: the keys of every stage ever run are made of this text; another one repeats all of them.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def digest_tree(folder: Path) -> str:
    """Digest of a folder: of every file's relative path and digest, in order of path."""
    files: list[JsonValue] = [
        [path.relative_to(folder).as_posix(), digest_file(path)] for path in files_below(folder)
    ]
    return digest_json(files)


def files_below(folder: Path) -> list[Path]:
    """Every regular file below `folder`, in order of path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def artifact_of(name: str, path: Path) -> Artifact:
    """The record of a file or folder on this machine."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in files_below(path))
        return Artifact(
            name=name, uri=path.resolve().as_uri(), digest=digest_tree(path), bytes=size
        )
    return Artifact(
        name=name, uri=path.resolve().as_uri(), digest=digest_file(path), bytes=path.stat().st_size
    )


def local_path(artifact: Artifact) -> Path:
    """Where an artifact with a file:// URI lies on this machine."""
    return path_of(artifact.uri)


def path_of(uri: str) -> Path:
    """The path of a file:// URI."""
    return Path(unquote(urlsplit(uri).path))
