"""A job's own prefix in an object store, for what must outlive the disk of a pod.

An artifact is written below its attempt, once, and read back by its digest. A snapshot is a folder
that attempts share, such as a checkpoint. An object store cannot rename, so it is whole if its
manifest is there, which is written last and removed first: half of one is never taken for a whole.
Several machines may each put a part of a snapshot there, before one of them writes its manifest.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.downloads import download_files, download_folder
from tunesmith_engine.sources.errors import Role, SourceError, missing, translate_error
from tunesmith_engine.sources.local_paths import stays_below
from tunesmith_engine.sources.remote_store import RemoteStore, open_store
from tunesmith_engine.sources.version_manifest import (
    MANIFEST,
    VersionManifest,
    manifest_of,
    parse_manifest,
)
from tunesmith_engine.stages.digests import artifact_of, files_below

WORKSPACE: Final = Role("workspace", Reason.WORKSPACE_UNAVAILABLE, Reason.WORKSPACE_UNAVAILABLE)
_PROBE: Final = ".writable"


class WorkspaceStore:
    """The prefix of one job; what comes from there is kept below `folder` on this machine.

    A `place` is a path below the prefix. Every method but the constructor raises a SourceError
    where the store does not do as asked.
    """

    def __init__(self, uri: str, *, secret: Secret, folder: Path) -> None:
        """Open the store.

        Raises:
            SourceError: the secret lacks a key, or the store's driver is not installed.
        """
        self._uri = uri
        self._files = open_store(uri, secret=secret, role=WORKSPACE).filesystem
        self._folder = folder

    def check_writable(self) -> None:
        """Write an empty object: a wrong key is told before hours of work depend on it."""
        with self._translating_errors(self._uri):
            self._files.pipe_file(self._path(_PROBE), b"")

    def put(self, path: Path, place: str) -> str:
        """Upload a file or a folder; its URI."""
        with self._translating_errors(self._uri_of(place)):
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
        if [file.path for file in files] == [store.path]:
            path = download_files(store, files, folder=self._folder)[0]
        else:
            path = download_folder(store, files, folder=self._folder)
        if artifact_of(artifact.name, path).digest != artifact.digest:
            # NB: removed from the cache, or the next attempt would find it there and fail alike.
            _remove(path)
            raise SourceError(
                WORKSPACE.missing,
                f"workspace: {artifact.uri} is not what was written there; somebody has changed "
                "it. Apply the job under another name to make it anew.",
            )
        return path

    def list_snapshots(self, place: str) -> dict[str, VersionManifest]:
        """The whole folders below `place`, by name, as their manifests describe them."""
        root = f"{self._path(place)}/"
        snapshots = {}
        for file in self._at(self._uri_of(place)).files_below():
            name, _, last = file.path.removeprefix(root).rpartition("/")
            # NB: a name is a folder on this disk that is removed, too.
            if last != MANIFEST or "/" in name or not stays_below(name):
                continue
            manifest = self._read_manifest(f"{place}/{name}/{MANIFEST}")
            if manifest is not None:
                snapshots[name] = manifest
        return snapshots

    def put_snapshot(self, folder: Path, place: str) -> None:
        """Upload a folder in place of one that is there; its manifest comes last."""
        manifest = manifest_of(folder)
        # NB: first. Written over, the old manifest would vouch for a mixture of both.
        self.delete_snapshot(place)
        self.put_part(folder, manifest.files, place)
        self.finish_snapshot(place, manifest)

    def put_part(self, folder: Path, names: Iterable[str], place: str) -> None:
        """Upload these files below `folder` as a part of a snapshot that is not finished."""
        with self._translating_errors(self._uri_of(place)):
            for name in names:
                self._put_below(folder, folder / name, place)

    def finish_snapshot(self, place: str, manifest: VersionManifest) -> None:
        """From here on there is a snapshot; all its files are there."""
        self.write_text(f"{place}/{MANIFEST}", manifest.text())

    def read_snapshot(self, place: str) -> VersionManifest | None:
        """The manifest of one snapshot; None if there is none."""
        return self._read_manifest(f"{place}/{MANIFEST}")

    def write_text(self, place: str, text: str) -> None:
        """Write one object, in place of one that is there."""
        with self._translating_errors(self._uri_of(place)):
            self._files.pipe_file(self._path(place), text.encode())

    def read_text(self, place: str) -> str | None:
        """One object; None if there is none."""
        with self._translating_errors(self._uri_of(place)), suppress(FileNotFoundError):
            return bytes(self._files.cat_file(self._path(place))).decode()
        return None

    def get_snapshot(self, place: str, manifest: VersionManifest, target: Path) -> bool:
        """Download a folder to `target`; False if it is not as its manifest says."""
        store = self._at(self._uri_of(place))
        wanted = {f"{store.path}/{name}" for name in manifest.files}
        files = [file for file in store.files_below() if file.path in wanted]
        if len(files) < len(wanted):
            return False
        downloaded = download_folder(store, files, folder=self._folder)
        if manifest_of(downloaded) != manifest:
            _remove(downloaded)
            return False
        # Whole or not there, as the stage that goes on from it expects.
        target.parent.mkdir(parents=True, exist_ok=True)
        downloaded.rename(target)
        return True

    def delete_snapshot(self, place: str) -> None:
        """Remove a folder, its manifest first."""
        manifest = self._path(f"{place}/{MANIFEST}")
        others = {file.path for file in self._at(self._uri_of(place)).files_below()} - {manifest}
        with self._translating_errors(self._uri_of(place)):
            for path in (manifest, *sorted(others)):
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)

    def _put_below(self, folder: Path, file: Path, place: str) -> None:
        name = file.relative_to(folder).as_posix()
        self._files.put_file(str(file), self._path(f"{place}/{name}"))

    def _read_manifest(self, place: str) -> VersionManifest | None:
        # It may go between the listing and the read, when another attempt is still being stopped.
        text = self.read_text(place)
        return None if text is None else parse_manifest(text.encode())

    def _uri_of(self, place: str) -> str:
        return f"{self._uri}/{place}"

    def _path(self, place: str) -> str:
        return self._at(self._uri_of(place)).path

    def _at(self, uri: str) -> RemoteStore:
        return RemoteStore(uri=uri, filesystem=self._files, role=WORKSPACE)

    @contextmanager
    def _translating_errors(self, uri: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise translate_error(error, uri=uri, role=WORKSPACE) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink()
