"""`python -m tunesmith_serving fetch URI FOLDER --digest D`: a published version onto this disk.

What an init container does before the server starts. The folder is there whole and proven, or not
at all: files are loaded beside it, and renamed into place once every digest is right. Formats for
devices stay in an object store or on a hub; an image comes with them.
"""

import argparse
import shutil
import sys
from pathlib import Path

from tunesmith_api.field_types import SecretReference
from tunesmith_engine.sources.credentials import Secret, read_secret
from tunesmith_engine.sources.downloads import download_folder
from tunesmith_engine.sources.errors import MODEL, SourceError
from tunesmith_engine.sources.image_files import pull_image
from tunesmith_engine.sources.remote_store import RemoteStore, open_store
from tunesmith_engine.sources.version_manifest import (
    MANIFEST,
    VersionManifest,
    manifest_of,
    parse_manifest,
)
from tunesmith_engine.stages.entry import EXIT_BAD_INPUT

# What EX_TEMPFAIL of sysexits says: the same again may succeed.
EXIT_RETRY = 75


def fetch(argv: list[str]) -> int:
    """Bring the version to the folder. Return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if not is_whole(arguments.folder, digest=arguments.digest):
            _fetch(arguments)
    except SourceError as error:
        sys.stderr.write(f"fetch: {error.message}\n")
        return EXIT_RETRY if error.retryable else EXIT_BAD_INPUT
    except OSError as error:
        # Of this machine: a full disk, a folder that cannot be written.
        sys.stderr.write(f"fetch: {arguments.folder}: {error.strerror or error}\n")
        return EXIT_RETRY
    return 0


def is_whole(folder: Path, *, digest: str) -> bool:
    """Whether the folder is the version of that digest: an earlier start may have fetched it."""
    try:
        manifest = parse_manifest((folder / MANIFEST).read_bytes())
    except OSError:
        return False
    return (
        manifest is not None
        and manifest.digest() == digest
        and manifest_of(folder).served() == manifest.served()
    )


def _fetch(arguments: argparse.Namespace) -> None:
    reference = SecretReference(name=arguments.secret) if arguments.secret else None
    secret = read_secret(reference, secrets=arguments.secrets)
    arguments.folder.parent.mkdir(parents=True, exist_ok=True)
    beside = arguments.folder.parent / ".fetched"
    if arguments.uri.startswith("oci://"):
        loaded = pull_image(arguments.uri, secret=secret, folder=beside / "image")
    else:
        loaded = _load(arguments, secret=secret, folder=beside)
    if not is_whole(loaded, digest=arguments.digest):
        # NB: removed, or the next attempt would find it and fail alike.
        shutil.rmtree(loaded)
        raise SourceError(
            MODEL.missing,
            f"{arguments.uri} is not what was published as {arguments.digest}; publish it again.",
        )
    shutil.rmtree(arguments.folder, ignore_errors=True)
    loaded.rename(arguments.folder)


def _load(arguments: argparse.Namespace, *, secret: Secret, folder: Path) -> Path:
    """Download the files that the version's manifest names."""
    store = open_store(arguments.uri.rstrip("/"), secret=secret, role=MODEL)
    manifest = _manifest(store, digest=arguments.digest)
    wanted = {f"{store.path.rstrip('/')}/{name}" for name in (*manifest.served(), MANIFEST)}
    files = [file for file in store.files_below() if file.path in wanted]
    return download_folder(store, files, folder=folder)


def _manifest(store: RemoteStore, *, digest: str) -> VersionManifest:
    """What the version has to consist of.

    Raises:
        SourceError: it is not there, is another version, or names files outside of its folder.
    """
    path = f"{store.path.rstrip('/')}/{MANIFEST}"
    listed = next((file for file in store.files_below() if file.path == path), None)
    content = store.filesystem.cat_file(path) if listed is not None else b""
    manifest = parse_manifest(content)
    if manifest is None or manifest.digest() != digest:
        raise SourceError(
            MODEL.missing, f"{store.uri} holds no version {digest}; check spec and address."
        )
    return manifest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunesmith_serving fetch", description="Fetch a published version by its digest."
    )
    parser.add_argument("uri", help="the version in an object store, on a hub or in a registry")
    parser.add_argument("folder", type=Path, help="where it shall be")
    parser.add_argument("--digest", required=True, help="digest of the version")
    parser.add_argument("--secret", help="name of the secret with credentials")
    parser.add_argument(
        "--secrets", type=Path, default=Path(), help="folder with one folder a secret"
    )
    return parser
