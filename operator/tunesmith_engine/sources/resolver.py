"""What the URIs of a spec name: data files, a base model, a place to publish to.

Every scheme ends here. `local_paths.py` resolves `file://` and `python://`, `hub_models.py` `hf://`
models, `remote_store.py` and `downloads.py` all else; `fingerprints.py` asks the same places what
has changed. Remote content is kept below `cache`, `secrets` holds a folder for each secret, and
`base`, the manifest's folder, is where relative `file://` paths start.
"""

import fnmatch
from pathlib import Path

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.uris import parse_uri
from tunesmith_engine.sources.credentials import Secret, read_secret
from tunesmith_engine.sources.downloads import download_files, download_folder
from tunesmith_engine.sources.errors import DATA, MODEL, TARGET, SourceError, missing
from tunesmith_engine.sources.hub_models import fetch_hub_model, hub_model
from tunesmith_engine.sources.hub_target import HubTarget
from tunesmith_engine.sources.local_paths import is_local, local_matches
from tunesmith_engine.sources.local_target import LocalTarget
from tunesmith_engine.sources.model_formats import (
    WANTED_PATTERNS,
    require_file_name,
    require_names,
    require_usable,
)
from tunesmith_engine.sources.object_target import ObjectTarget
from tunesmith_engine.sources.published_model import folder_with_weights
from tunesmith_engine.sources.remote_store import RemoteFile, RemoteStore, open_store
from tunesmith_engine.sources.target import Target


def fetch_files(source: DataSource, *, base: Path, cache: Path, secrets: Path) -> list[Path]:
    """Local paths of the data files of `source`, in order of path.

    Raises:
        SourceError: no file is there, or it cannot be reached or read.
        OSError: the disk is full.
    """
    if is_local(source.uri):
        paths = local_matches(source.uri, base=base, role=DATA)
        if any(not path.is_file() for path in paths):
            hint = "it is a folder: name a file, or several with *"
            raise missing(source.uri, role=DATA, hint=hint)
        return paths
    secret = read_secret(source.secret_ref, secrets=secrets)
    store = open_store(source.uri, secret=secret, role=DATA)
    return download_files(store, store.files(), folder=cache / "files")


def fetch_folder(source: Suite, *, base: Path, cache: Path, secrets: Path) -> Path:
    """Local path of a folder of files.

    Raises:
        SourceError: no folder is there, or it cannot be reached or read.
        OSError: the disk is full.
    """
    if is_local(source.uri):
        return local_folder(source.uri, base=base)
    secret = read_secret(source.secret_ref, secrets=secrets)
    store = open_store(source.uri, secret=secret, role=DATA)
    files = store.files_below()
    if not files:
        raise missing(source.uri, role=DATA)
    return download_folder(store, files, folder=cache / "files")


def local_folder(uri: str, *, base: Path) -> Path:
    """The folder that a local URI names.

    Raises:
        SourceError: there is none.
    """
    paths = local_matches(uri, base=base, role=DATA)
    if len(paths) != 1 or not paths[0].is_dir():
        raise missing(uri, role=DATA, hint="it is no folder: name one that holds the files")
    return paths[0]


def fetch_model(source: ModelSource, *, base: Path, cache: Path, secrets: Path) -> Path:
    """A folder with config.json, safetensors and a tokenizer, or one .gguf file.

    Raises:
        SourceError: the model is not there, not allowed, not reachable, unsafe or damaged.
        OSError: the disk is full.
    """
    if is_local(source.uri):
        path = _local_model(source.uri, base=base)
    elif source.uri.startswith("hf://"):
        path = fetch_hub_model(source, cache=cache, secrets=secrets)
    else:
        secret = read_secret(source.secret_ref, secrets=secrets)
        store = open_store(source.uri, secret=secret, role=MODEL)
        files, folder = remote_model_files(store), cache / "sources"
        if files[0].name.endswith(".gguf"):
            path = download_files(store, files[:1], folder=folder)[0]
        else:
            path = download_folder(store, files, folder=folder)
    # NB: whatever the way here. Names were checked before anything was fetched; what is in the
    # files can only be checked now, and has to be before a library opens them.
    require_usable(path, uri=source.uri)
    return path


def local_model_path(source: ModelSource, *, base: Path, cache: Path) -> Path | None:
    """Where the model lies on this machine already; None where it would have to be fetched.

    Of the version of an adapter alone it is the folder of its base.

    Nothing is asked of a network, so a model in s3, gs or https, whose content can change, counts
    as not there.
    """
    try:
        if is_local(source.uri):
            return folder_with_weights(_local_model(source.uri, base=base))
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
    # Web servers have no listing that can be relied on: https:// names one file.
    if name.endswith(".gguf") or store.uri.startswith("https://"):
        require_file_name(name, uri=store.uri)
        return store.files()
    files = store.files_below()
    if not files:
        raise missing(store.uri, role=MODEL)
    require_names((file.name for file in files), uri=store.uri)
    return [
        file
        for file in files
        if any(fnmatch.fnmatch(file.name, pattern) for pattern in WANTED_PATTERNS)
    ]


def open_target(uri: str, *, base: Path, secret: Secret, private: bool = True) -> Target:
    """The place to publish versions to; `private` is what a new one on the hub becomes.

    Raises:
        SourceError: the secret lacks a key that the target needs, or its driver is not installed.
    """
    if uri.startswith("file://"):
        return LocalTarget((base / Path(parse_uri(uri).path).expanduser()).resolve())
    if uri.startswith("hf://"):
        return HubTarget(uri, secret=secret, private=private)
    if uri.startswith("oci://"):
        # The compressor's environment, which publishes nothing, has no such client.
        from tunesmith_engine.sources.image_target import ImageTarget  # noqa: PLC0415

        return ImageTarget(uri, secret=secret)
    return ObjectTarget(open_store(uri, secret=secret, role=TARGET))


def _local_model(uri: str, *, base: Path) -> Path:
    paths = local_matches(uri, base=base, role=MODEL)
    if len(paths) != 1:
        raise missing(uri, role=MODEL, hint=f"it matches {len(paths)} files: name one")
    return paths[0]
