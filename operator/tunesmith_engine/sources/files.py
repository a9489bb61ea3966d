"""Data files: every scheme's URI and pattern becomes a sorted list of local paths."""

from pathlib import Path

from tunesmith_api.finetunejob.dataset import DataSource
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.downloads import downloaded_files
from tunesmith_engine.sources.errors import DATA, missing
from tunesmith_engine.sources.local_paths import is_local, local_matches
from tunesmith_engine.sources.remote_store import open_store


def fetch_files(source: DataSource, *, base: Path, cache: Path, secrets: Path) -> list[Path]:
    """Local paths of the files of `source`, in order of path.

    `base` is where relative file:// paths start: the manifest's folder. Remote files are kept
    below `cache`; `secrets` holds a folder for each secret.

    Raises:
        SourceError: no file is there, or it cannot be reached or read.
        OSError: the disk is full.
    """
    if is_local(source.uri):
        found = local_matches(source.uri, base=base, role=DATA)
        if any(not path.is_file() for path in found):
            hint = "it is a folder: name a file, or several with *"
            raise missing(source.uri, role=DATA, hint=hint)
        return found
    secret = read_secret(source.secret_ref, secrets=secrets)
    store = open_store(source.uri, secret=secret, role=DATA)
    return downloaded_files(store, store.files(), folder=cache / "files")
