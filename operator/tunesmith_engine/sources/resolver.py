"""Base models: every scheme's URI becomes a folder or a .gguf file that is safe to load."""

import fnmatch
from pathlib import Path

from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.downloads import downloaded_files, downloaded_folder
from tunesmith_engine.sources.errors import MODEL, SourceError, missing
from tunesmith_engine.sources.hub_models import fetch_hub_model, hub_model
from tunesmith_engine.sources.local_paths import is_local, local_matches
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.model_formats import (
    WANTED_PATTERNS,
    require_file_name,
    require_names,
    require_usable,
)
from tunesmith_engine.sources.remote_store import RemoteFile, RemoteStore, open_store

__all__ = ["fetch_model", "local_model_path", "read_model_facts", "remote_model_files"]


def fetch_model(source: ModelSource, *, base: Path, cache: Path, secrets: Path) -> Path:
    """A folder with config.json, safetensors and a tokenizer, or one .gguf file.

    `base` is where relative file:// paths start: the manifest's folder. Remote models are kept
    below `cache`; `secrets` holds a folder for each secret.

    Raises:
        SourceError: the model is not there, not allowed, not reachable, unsafe or damaged.
        OSError: the disk is full.
    """
    if is_local(source.uri):
        path = _local(source.uri, base=base)
    elif source.uri.startswith("hf://"):
        path = fetch_hub_model(source, cache=cache, secrets=secrets)
    else:
        secret = read_secret(source.secret_ref, secrets=secrets)
        path = _fetch(open_store(source.uri, secret=secret, role=MODEL), folder=cache / "sources")
    require_usable(path, uri=source.uri)
    return path


def local_model_path(source: ModelSource, *, base: Path, cache: Path) -> Path | None:
    """Where the model lies on this machine already; None where it would have to be fetched.

    Nothing is asked of a network, so a model in s3, gs or https, whose content can change, counts
    as not there.
    """
    try:
        if is_local(source.uri):
            return _local(source.uri, base=base)
        if source.uri.startswith("hf://"):
            return hub_model(source, cache=cache).cached_path()
    except SourceError:
        return None
    return None


def remote_model_files(store: RemoteStore) -> list[RemoteFile]:
    """The files that make the model at a remote place, with what identifies their content.

    Raises:
        SourceError: nothing usable is there, or it cannot be reached or read.
    """
    name = store.uri.partition("?")[0].rstrip("/").rpartition("/")[2]
    if name.endswith(".gguf") or store.uri.startswith("https://"):
        require_file_name(name, uri=store.uri)
        return store.files()
    found = store.files_below()
    if not found:
        raise missing(store.uri, role=MODEL)
    require_names((file.name for file in found), uri=store.uri)
    return [file for file in found if _is_wanted(file.name)]


def _local(uri: str, *, base: Path) -> Path:
    found = local_matches(uri, base=base, role=MODEL)
    if len(found) != 1:
        raise missing(uri, role=MODEL, hint=f"it matches {len(found)} files: name one")
    return found[0]


def _fetch(store: RemoteStore, *, folder: Path) -> Path:
    files = remote_model_files(store)
    if files[0].name.endswith(".gguf"):
        return downloaded_files(store, files[:1], folder=folder)[0]
    return downloaded_folder(store, files, folder=folder)


def _is_wanted(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED_PATTERNS)
