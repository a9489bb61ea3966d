"""Fingerprints of a job's sources: texts that change whenever the content does.

They go into the stages' keys. Local content is read; of remote content its server's marks are
taken (ETag, version, size, commit), so that nothing is fetched to find out that nothing changed.
"""

from pathlib import Path

from pydantic import JsonValue

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.digest_cache import cached_digest
from tunesmith_engine.sources.errors import DATA, MODEL
from tunesmith_engine.sources.hub_models import hub_commit
from tunesmith_engine.sources.local_paths import is_local, local_matches
from tunesmith_engine.sources.remote_store import RemoteFile, open_store
from tunesmith_engine.sources.resolver import fetch_files, local_folder, remote_model_files
from tunesmith_engine.stages.digests import digest_json


def fingerprint_job(
    spec: FineTuneJobSpec, *, base: Path, cache: Path, secrets: Path
) -> dict[str, str]:
    """The fingerprint of every source of the job, by the path of its field below `spec`.

    Raises:
        SourceError: a source is not there, not allowed or not reachable.
        OSError: a local file cannot be read.
    """
    return {
        path: _fingerprint(source, base=base, cache=cache, secrets=secrets)
        for path, source in spec.sources().items()
    }


def _fingerprint(
    source: ModelSource | DataSource | Suite, *, base: Path, cache: Path, secrets: Path
) -> str:
    match source:
        case ModelSource():
            return fingerprint_model(source, base=base, cache=cache, secrets=secrets)
        case Suite():
            return fingerprint_folder(source, base=base, cache=cache, secrets=secrets)
        case _:
            return fingerprint_data(source, base=base, cache=cache, secrets=secrets)


def fingerprint_model(source: ModelSource, *, base: Path, cache: Path, secrets: Path) -> str:
    """Of a local model the digest of its content, of a hub's its commit, of others their marks.

    Raises:
        SourceError: the model is not there, not allowed or not reachable.
    """
    if is_local(source.uri):
        paths = local_matches(source.uri, base=base, role=MODEL)
        return digest_json([cached_digest(path, cache=cache) for path in paths])
    if source.uri.startswith("hf://"):
        return f"commit:{hub_commit(source, cache=cache, secrets=secrets)}"
    secret = read_secret(source.secret_ref, secrets=secrets)
    return _fingerprint_remote(
        remote_model_files(open_store(source.uri, secret=secret, role=MODEL))
    )


def fingerprint_data(source: DataSource, *, base: Path, cache: Path, secrets: Path) -> str:
    """Of local files the digest of their names and content, of remote ones of their marks.

    Raises:
        SourceError: no file is there, or it is not allowed or not reachable.
    """
    if is_local(source.uri):
        paths = fetch_files(source, base=base, cache=cache, secrets=secrets)
        # The name counts, since it says what format is in the file; the folder does not, so that
        # a job that was moved has its stages done.
        return digest_json([[path.name, cached_digest(path, cache=cache)] for path in paths])
    secret = read_secret(source.secret_ref, secrets=secrets)
    return _fingerprint_remote(open_store(source.uri, secret=secret, role=DATA).files())


def fingerprint_folder(source: Suite, *, base: Path, cache: Path, secrets: Path) -> str:
    """Of a local folder the digest of its content, of a remote one of its files' marks.

    Raises:
        SourceError: no folder is there, or it is not allowed or not reachable.
    """
    if is_local(source.uri):
        return cached_digest(local_folder(source.uri, base=base), cache=cache)
    secret = read_secret(source.secret_ref, secrets=secrets)
    return _fingerprint_remote(open_store(source.uri, secret=secret, role=DATA).files_below())


def _fingerprint_remote(files: list[RemoteFile]) -> str:
    content: list[JsonValue] = [[file.name, file.fingerprint] for file in files]
    return digest_json(content)
