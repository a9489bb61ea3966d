"""Targets: where finished versions go, whole or not at all.

`file://` targets are folders, completed beside their place and renamed into it; all others are
object stores, where the manifest is written last and two writers cannot mix.
"""

from pathlib import Path

from tunesmith_api.uris import parse_uri
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import TARGET
from tunesmith_engine.sources.local_target import LocalTarget
from tunesmith_engine.sources.object_target import ObjectTarget
from tunesmith_engine.sources.remote_store import open_store
from tunesmith_engine.sources.target import Target


def open_target(uri: str, *, base: Path, secret: Secret) -> Target:
    """The target at `uri`; relative file:// URIs start at `base`, the manifest's folder.

    Raises:
        SourceError: the secret lacks a key that the target needs, or its driver is not installed.
    """
    if uri.startswith("file://"):
        return LocalTarget((base / Path(parse_uri(uri).path).expanduser()).resolve())
    return ObjectTarget(open_store(uri, secret=secret, role=TARGET))
