"""Models on the Hugging Face hub: hf://OWNER/NAME, or hf://OWNER/NAME/FILE.gguf.

The hub client's own cache layout is used, below the cache of the home folder:

    hub/models--OWNER--NAME/blobs/ETAG                  the bytes
                            snapshots/COMMIT/FILE       links to blobs
                            refs/REVISION               the commit that a branch or tag meant

The commit that a branch points to is asked for each time; without a network the commit that was
fetched last is taken.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import huggingface_hub

from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.reasons import Reason
from tunesmith_api.uris import parse_uri
from tunesmith_engine.sources.credentials import Secret, read_secret
from tunesmith_engine.sources.errors import MODEL, SourceError, missing, translate_error
from tunesmith_engine.sources.local_paths import stays_below
from tunesmith_engine.sources.model_formats import WANTED_PATTERNS, require_file_name, require_names

LOGGER = logging.getLogger(__name__)
# NB: httpx logs every address, and those of the hub's files carry signatures that are credentials.
# It is called httpx2 from huggingface_hub 2 on.
for _client in ("httpx", "httpx2"):
    logging.getLogger(_client).setLevel(logging.WARNING)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

# Written into a snapshot when all of it was fetched. The client links files into the folder one by
# one: without this, a download that was broken off would look like a model.
_COMPLETE: Final = ".tunesmith-complete"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model repository, or one file in it, at a branch, tag or commit."""

    uri: str
    repository: str
    file: str
    revision: str
    folder: Path

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never means anything else."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def cache_folder(self) -> Path:
        """Where the client keeps the repository."""
        return self.folder / f"models--{self.repository.replace('/', '--')}"

    def cached_commit(self) -> str | None:
        """The commit that is in the cache for this revision, without asking anybody."""
        reference = self.cache_folder / "refs" / self.revision
        if self.is_pinned:
            commit = self.revision
        elif reference.is_file():
            commit = reference.read_text(encoding="utf-8").strip()
        else:
            return None
        is_complete = (self.cache_folder / "snapshots" / commit / _COMPLETE).exists()
        return commit if is_complete else None

    def cached_path(self) -> Path | None:
        """Where the model lies in the cache, None where it is not or only in part."""
        commit = self.cached_commit()
        if commit is None:
            return None
        # Of a repository of which one file was fetched, another may be asked for now.
        path = self.cache_folder / "snapshots" / commit / self.file
        return path if path.exists() else None


def hub_model(source: ModelSource, *, cache: Path) -> HubModel:
    """Take an hf:// URI apart.

    Raises:
        SourceError: it names no repository.
    """
    parts = parse_uri(source.uri).path.strip("/").split("/")
    if len(parts) < 2 or not stays_below("/".join(parts)):  # noqa: PLR2004 - owner and name
        raise missing(source.uri, role=MODEL, hint="write hf://OWNER/NAME")
    revision = source.revision or "main"
    # The client's cache has a file of this name.
    if not stays_below(revision):
        raise missing(source.uri, role=MODEL, hint="model.revision is no branch, tag or commit")
    return HubModel(
        uri=source.uri,
        repository="/".join(parts[:2]),
        file="/".join(parts[2:]),
        revision=revision,
        folder=cache / "hub",
    )


def hub_commit(source: ModelSource, *, cache: Path, secrets: Path) -> str:
    """The commit that the model's revision means now, or meant when it was fetched.

    Raises:
        SourceError: the hub denies it, does not know it, or is not reached and nothing is cached.
    """
    model = hub_model(source, cache=cache)
    if model.is_pinned:
        return model.revision
    try:
        return _query_hub(model, secret=read_secret(source.secret_ref, secrets=secrets))[0]
    except SourceError as error:
        return _fall_back_on_cache(model, error=error)


def fetch_hub_model(source: ModelSource, *, cache: Path, secrets: Path) -> Path:
    """Fetch the model, without any pickle, and return its folder or its .gguf file.

    Raises:
        SourceError: it is denied, missing, unsafe, or cannot be reached.
        OSError: the disk is full.
    """
    model = hub_model(source, cache=cache)
    if model.file:
        require_file_name(model.file, uri=model.uri)
    cached = model.cached_path()
    if cached is not None and model.is_pinned:
        return cached
    secret = read_secret(source.secret_ref, secrets=secrets)
    try:
        commit, names = _query_hub(model, secret=secret)
    except SourceError as error:
        if cached is None:
            raise
        _fall_back_on_cache(model, error=error)
        return cached
    if not model.file:
        require_names(names, uri=model.uri)
    return _download(model, commit=commit, secret=secret)


def _fall_back_on_cache(model: HubModel, *, error: SourceError) -> str:
    """The commit that was fetched last, where the hub is not reached; a refusal stays one."""
    commit = model.cached_commit()
    if commit is None or error.reason is not Reason.SOURCE_UNREACHABLE:
        raise error
    LOGGER.warning("%s The copy in the cache is used, commit %s.", error.message, commit[:12])
    return commit


def _query_hub(model: HubModel, *, secret: Secret) -> tuple[str, list[str]]:
    """The commit that the revision points to, and the names of its files."""
    # False, not None, which would send whatever token lies on this machine.
    api = huggingface_hub.HfApi(token=secret.get("HF_TOKEN") or False)
    try:
        info = api.model_info(model.repository, revision=model.revision, timeout=30)
    except Exception as error:
        raise translate_error(error, uri=model.uri, role=MODEL) from error
    if info.sha is None:
        raise missing(model.uri, role=MODEL)
    return info.sha, [sibling.rfilename for sibling in info.siblings or []]


def _download(model: HubModel, *, commit: str, secret: Secret) -> Path:
    patterns = [model.file] if model.file else list(WANTED_PATTERNS)
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                model.repository,
                # Not the branch, which may have moved since it was asked for.
                revision=commit,
                cache_dir=model.folder,
                allow_patterns=patterns,
                token=secret.get("HF_TOKEN") or False,
            )
        )
    except Exception as error:
        raise translate_error(error, uri=model.uri, role=MODEL) from error
    if not (folder / model.file).exists():
        raise missing(model.uri, role=MODEL)
    (folder / _COMPLETE).touch()
    if not model.is_pinned:
        # The client writes this only where it resolves the branch itself. It is what the next run
        # without a network finds the snapshot by.
        reference = folder.parents[1] / "refs" / model.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="utf-8")
    return folder / model.file
