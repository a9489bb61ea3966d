"""A job's own place in an object store, for what must outlive the disk of a pod.

An artifact is written below its attempt, once, and read back by its digest. A folder that attempts
share is whole if its manifest is there, which is written last and removed first: half of one is
never taken for a whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.downloads import downloaded_files, downloaded_folder
from tunesmith_engine.sources.errors import Role, SourceError, explained, missing
from tunesmith_engine.sources.remote_store import RemoteFile, RemoteStore, open_store
from tunesmith_engine.sources.version_manifest import (
    MANIFEST,
    VersionManifest,
    manifest_of,
    parse_manifest,
)
from tunesmith_engine.stages.digests import artifact_of, files_below

WORKSPACE: Final = Role("workspace", Reason.WORKSPACE_UNAVAILABLE, Reason.WORKSPACE_UNAVAILABLE)
_PROOF: Final = ".writable"


class JobStore:
    """The prefix of one job; what comes from there is kept below `folder` on this machine.

    Every method but the constructor raises a SourceError where the store does not do as asked.
    """

    def __init__(self, uri: str, *, secret: Secret, folder: Path) -> None:
        """Open the store.

        Raises:
            SourceError: the secret lacks a key, or the store's driver is not installed.
        """
        self._uri = uri
        self._files = open_store(uri, secret=secret, role=WORKSPACE).filesystem
        self._folder = folder

    def prove_writable(self) -> None:
        """Write a few bytes: a wrong key is told before hours of work depend on it."""
        with self._explaining(self._uri):
            self._files.pipe_file(self._path(_PROOF), b"")

    def put(self, path: Path, place: str) -> str:
        """Bring a file or a folder there; its URI."""
        with self._explaining(self._uri_of(place)):
            if path.is_file():
                self._files.put_file(str(path), self._path(place))
            for file in files_below(path):
                self._put_below(path, file, place)
        return self._uri_of(place)

    def get(self, artifact: Artifact) -> Path:
        """The artifact on this machine, proven by its digest."""
        store = self._at(artifact.uri)
        files = store.files_below()
        if not files:
            raise missing(artifact.uri, role=WORKSPACE, hint="somebody has removed it")
        path = self._fetched(store, files)
        if artifact_of(artifact.name, path).digest != artifact.digest:
            _remove(path)
            raise _changed(artifact.uri)
        return path

    def whole_folders(self, place: str) -> dict[str, VersionManifest]:
        """The folders below `place` that are whole, by name, as their manifests describe them."""
        root = f"{self._path(place)}/"
        names = (
            each.path.removeprefix(root) for each in self._at(self._uri_of(place)).files_below()
        )
        found = {
            name.removesuffix(f"/{MANIFEST}"): self._manifest(f"{place}/{name}")
            for name in names
            if name.endswith(f"/{MANIFEST}")
        }
        return {name: manifest for name, manifest in found.items() if manifest is not None}

    def put_whole(self, folder: Path, place: str) -> None:
        """Bring a folder there in place of one that is there; its manifest comes last."""
        manifest = manifest_of(folder)
        self.remove_whole(place)
        with self._explaining(self._uri_of(place)):
            for name in manifest.files:
                self._put_below(folder, folder / name, place)
            self._files.pipe_file(self._path(f"{place}/{MANIFEST}"), manifest.text().encode())

    def get_whole(self, place: str, manifest: VersionManifest, target: Path) -> bool:
        """Bring a folder from there to `target`; False if it is not as its manifest says."""
        store = self._at(self._uri_of(place))
        wanted = {f"{store.path}/{name}" for name in manifest.files}
        files = [each for each in store.files_below() if each.path in wanted]
        if len(files) < len(wanted):
            return False
        fetched = downloaded_folder(store, files, folder=self._folder)
        if manifest_of(fetched) != manifest:
            _remove(fetched)
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.rename(target)
        return True

    def remove_whole(self, place: str) -> None:
        """Remove a folder there, its manifest first."""
        manifest = self._path(f"{place}/{MANIFEST}")
        others = {each.path for each in self._at(self._uri_of(place)).files_below()} - {manifest}
        with self._explaining(self._uri_of(place)):
            for path in (manifest, *sorted(others)):
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)

    def _fetched(self, store: RemoteStore, files: list[RemoteFile]) -> Path:
        if [each.path for each in files] == [store.path]:
            return downloaded_files(store, files, folder=self._folder)[0]
        return downloaded_folder(store, files, folder=self._folder)

    def _put_below(self, folder: Path, file: Path, place: str) -> None:
        name = file.relative_to(folder).as_posix()
        self._files.put_file(str(file), self._path(f"{place}/{name}"))

    def _manifest(self, place: str) -> VersionManifest | None:
        with self._explaining(self._uri_of(place)), suppress(FileNotFoundError):
            return parse_manifest(self._files.cat_file(self._path(place)))
        return None

    def _uri_of(self, place: str) -> str:
        return f"{self._uri}/{place}"

    def _path(self, place: str) -> str:
        return self._at(self._uri_of(place)).path

    def _at(self, uri: str) -> RemoteStore:
        return RemoteStore(uri=uri, filesystem=self._files, role=WORKSPACE)

    @contextmanager
    def _explaining(self, uri: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise explained(error, uri=uri, role=WORKSPACE) from error


def _changed(uri: str) -> SourceError:
    return SourceError(
        WORKSPACE.missing,
        f"workspace: {uri} is not what was written there; somebody has changed it. Apply the job "
        "under another name to make it anew.",
    )


def _remove(path: Path) -> None:
    """Forget a download that is not what it should be."""
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink()
