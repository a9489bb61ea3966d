"""`python -m tunesmith_serving fetch URI FOLDER --digest D`: a published version from a store.

What runs in a serving pod before its server. The folder is there whole and proven, or not at all; a
container that is started again finds what the one before has downloaded.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from tunesmith_api.field_types import SecretReference
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.downloads import download_folder
from tunesmith_engine.sources.errors import Role, SourceError, missing
from tunesmith_engine.sources.remote_store import open_store
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of
from tunesmith_engine.stages.entry import EXIT_BAD_INPUT

VERSION: Final = Role("version", Reason.BASE_MODEL_NOT_FOUND, Reason.MODEL_ACCESS_DENIED)
_TRY_AGAIN: Final = 1


def fetch(argv: list[str]) -> int:
    """Download a version. Return the exit code: 2 where trying again would not help."""
    arguments = _parser().parse_args(argv)
    try:
        fetch_version(
            arguments.uri,
            arguments.folder,
            digest=arguments.digest,
            secret=SecretReference(name=arguments.secret) if arguments.secret else None,
            secrets=arguments.secrets,
        )
    except SourceError as error:
        sys.stderr.write(f"fetch: {error.message}\n")
        return _TRY_AGAIN if error.retryable else EXIT_BAD_INPUT
    return 0


def fetch_version(
    uri: str, folder: Path, *, digest: str, secret: SecretReference | None, secrets: Path
) -> None:
    """Bring the version at `uri` to `folder`.

    Raises:
        SourceError: it is not there, cannot be read, or is not what was published.
        OSError: the disk is full.
    """
    if folder.exists():
        return
    store = open_store(uri, secret=read_secret(secret, secrets=secrets), role=VERSION)
    files = store.files_below()
    if not any(file.path == f"{store.path}/{MANIFEST}" for file in files):
        raise missing(uri, role=VERSION, hint=f"a published version has a {MANIFEST}")
    downloaded = download_folder(store, files, folder=folder.parent / "downloads")
    found = manifest_of(downloaded).digest()
    if found != digest:
        # NB: removed, or the next attempt would take it for downloaded and fail alike.
        shutil.rmtree(downloaded)
        raise SourceError(
            VERSION.missing,
            f"{uri} is not what was published: its files have the digest {found} instead of "
            f"{digest}; publish the version again",
        )
    downloaded.rename(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunesmith_serving fetch", description="Download a published version, and prove it."
    )
    parser.add_argument("uri", help="where the version lies")
    parser.add_argument("folder", type=Path, help="where to put it; nothing may be there")
    parser.add_argument("--digest", required=True, help="digest of the version")
    parser.add_argument("--secret", help="name of the secret with credentials")
    parser.add_argument(
        "--secrets", type=Path, default=Path("secrets"), help="folder of all secrets"
    )
    return parser
