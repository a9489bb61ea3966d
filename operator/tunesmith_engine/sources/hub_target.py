"""A repository of the Hugging Face hub: every version is a tag, the branch moves on to the newest.

A version is one commit, which the hub makes whole or not at all. The tag comes after it: a job that
was killed in between finds its content at the branch's head, and only tags it. Two writers cannot
mix, since a commit names the one that it follows.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.hf_api import RepoFile

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import TARGET, SourceError, translate_error
from tunesmith_engine.sources.target import ProgressCallback, conflict, not_writable, not_written
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, VersionManifest

_MAIN: Final = "main"
# The hub's own, which says what is kept as large files.
_ATTRIBUTES: Final = ".gitattributes"
# Another commit came first: HTTP's "precondition failed" and "conflict".
_OVERTAKEN: Final = frozenset({409, 412})
_TREE_SECONDS: Final = 30
Digests = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Head:
    """A commit, and the digests that the hub gives of its files: sha256, or git's of small ones."""

    commit: str
    files: Digests


class HubTarget:
    """The repository at `hf://OWNER/NAME` or `hf://OWNER/NAME@BRANCH`."""

    def __init__(self, uri: str, *, secret: Secret, private: bool) -> None:
        self._repository, _, branch = uri.removeprefix("hf://").rstrip("/").partition("@")
        self._branch = branch or _MAIN
        self._private = private
        # A hub of one's own; without it that of HF_ENDPOINT, or the public one.
        self._api = huggingface_hub.HfApi(
            endpoint=secret.get("HF_ENDPOINT"), token=secret.require("HF_TOKEN")
        )

    def uri_of(self, name: str) -> str:
        """The URI of the tag."""
        return f"hf://{self._repository}@{name}"

    def require_writable(self) -> None:
        """See `Target`; nothing is made: the hub is asked what the token may do."""
        uri = f"hf://{self._repository}"
        try:
            account = self._api.whoami()
            exists = self._api.repo_exists(self._repository)
        except Exception as error:
            raise translate_error(error, uri=uri, role=TARGET) from error
        token = account.get("auth", {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise not_writable(uri, because="the token in the secret's HF_TOKEN may only read")
        if exists:
            try:
                self._api.auth_check(self._repository, write=True)
            except Exception as error:
                raise translate_error(error, uri=uri, role=TARGET) from error
            return
        owner = self._repository.partition("/")[0]
        owners = {account.get("name"), *(org.get("name") for org in account.get("orgs", []))}
        # A token of fine grain tells more than this; it is then the commit that is refused.
        if owner not in owners:
            raise not_writable(
                uri,
                because=f"the token is that of {account.get('name')}, who is no member of {owner}, "
                "and there is no such repository",
            )

    def deliver(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        """See `Target`; what the hub says of its files is held against the manifest."""
        try:
            return self._deliver(folder, name, manifest=manifest, progress=progress)
        except SourceError:
            raise
        except Exception as error:
            if getattr(getattr(error, "response", None), "status_code", None) in _OVERTAKEN:
                raise SourceError(
                    Reason.SOURCE_UNREACHABLE,
                    f"hf://{self._repository}: another commit came first; it is tried again.",
                    retryable=True,
                ) from error
            raise translate_error(error, uri=self.uri_of(name), role=TARGET) from error

    def _deliver(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        self._api.create_repo(self._repository, private=self._private, exist_ok=True)
        if self._branch != _MAIN:
            self._api.create_branch(self._repository, branch=self._branch, exist_ok=True)
        published = self._head(name)
        if published is not None:
            if _difference(folder, manifest, published.files):
                raise conflict(self.uri_of(name), because="holds a version with other content")
            return False
        head = self._head(self._branch)
        # Of a job that was killed after its commit.
        is_there = head is not None and not _difference(folder, manifest, head.files)
        if head is None or not is_there:
            progress("uploading", 0, 1)
            commit = self._commit(folder, name, manifest=manifest, head=head)
            head = self._head(commit)
        difference = "no commit" if head is None else _difference(folder, manifest, head.files)
        if head is None or difference:
            raise not_written(self.uri_of(name), because=difference)
        # NB: last. The version exists from here on.
        self._api.create_tag(self._repository, tag=name, revision=head.commit)
        return True

    def _commit(
        self, folder: Path, name: str, *, manifest: VersionManifest, head: _Head | None
    ) -> str:
        wanted = [*manifest.files, MANIFEST]
        present = {} if head is None else head.files
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=file, path_or_fileobj=folder / file) for file in wanted
        ]
        operations += [
            CommitOperationDelete(path_in_repo=file)
            for file in sorted(present.keys() - {*wanted, _ATTRIBUTES})
        ]
        return self._api.create_commit(
            self._repository,
            operations,
            commit_message=f"Version {name}",
            revision=self._branch,
            parent_commit=None if head is None else head.commit,
        ).oid

    def _head(self, revision: str) -> _Head | None:
        """The commit that a branch, tag or commit means; None where there is none such."""
        try:
            info = self._api.model_info(self._repository, revision=revision, timeout=_TREE_SECONDS)
        except huggingface_hub.errors.RevisionNotFoundError:
            return None
        if info.sha is None:
            return None
        tree = self._api.list_repo_tree(self._repository, revision=info.sha, recursive=True)
        return _Head(
            commit=info.sha,
            files={
                entry.path: f"sha256:{entry.lfs.sha256}" if entry.lfs else entry.blob_id
                for entry in tree
                if isinstance(entry, RepoFile)
            },
        )


def _difference(folder: Path, manifest: VersionManifest, actual: Digests) -> str:
    """What differs at the hub from the version; empty if nothing does.

    The record and the manifest that lists it are left out, as they are of the version's digest.
    """
    for name, file in manifest.files.items():
        if name == RECORD:
            continue
        if name not in actual:
            return f"{name} is missing"
        is_large = actual[name].startswith("sha256:")
        if actual[name] != (file.digest if is_large else _git_digest(folder / name)):
            return f"{name} has another content"
    added = sorted(actual.keys() - {*manifest.files, MANIFEST, _ATTRIBUTES})
    return f"{added[0]} was added" if added else ""


def _git_digest(path: Path) -> str:
    """What git calls a file's content."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
