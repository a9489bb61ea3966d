"""A folder of versions in an object store, which can neither rename nor lock.

A writer first claims the version's name with an object that only one can create, for one content.
Then it uploads the files, reads every byte back, and writes the manifest last: without it a reader
knows that the version is not there. Two writers of the same content may share a claim, since they
write the same bytes.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_engine.sources.errors import TARGET, SourceError, translate_error
from tunesmith_engine.sources.remote_store import RemoteStore
from tunesmith_engine.sources.target import ProgressCallback, conflict, damaged, not_written
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest, parse_manifest

LOGGER = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 1 << 20
# No name of a version begins with a dot.
_PROBE: Final = ".write-test"


class ObjectTarget:
    """The prefix that `store` was opened for."""

    def __init__(self, store: RemoteStore) -> None:
        self._uri = store.uri.rstrip("/")
        self._files = store.filesystem
        self._root = str(store.path).rstrip("/")

    def uri_of(self, name: str) -> str:
        """The URI of the prefix that all of the version's objects share."""
        return f"{self._uri}/{name}"

    def require_writable(self) -> None:
        """See `Target`; an object of no bytes is written, and removed again."""
        probe = f"{self._root}/{_PROBE}"
        try:
            self._files.pipe_file(probe, b"")
        except Exception as error:
            raise translate_error(error, uri=self._uri, role=TARGET) from error
        self._remove([probe])

    def deliver(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        """See `Target`."""
        try:
            if self._is_published(name, manifest=manifest, progress=progress):
                return False
            with self._claimed(name, manifest=manifest):
                # Another writer may have finished between the look and the claim.
                if self._is_published(name, manifest=manifest, progress=progress):
                    return False
                self._upload(folder, name, manifest=manifest, progress=progress)
        except SourceError:
            raise
        except Exception as error:
            raise translate_error(error, uri=self.uri_of(name), role=TARGET) from error
        return True

    def _is_published(
        self, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        """Whether the version is there; it is proven again, since it is about to be relied on."""
        text = self._read(self._path(name, MANIFEST))
        if text is None:
            return False
        published = parse_manifest(text)
        if published is None:
            raise conflict(self.uri_of(name), because="exists and is no published version")
        if published.digest() != manifest.digest():
            raise conflict(self.uri_of(name), because="holds a version with other content")
        difference = self._difference(name, published, progress=progress)
        if difference:
            raise damaged(self.uri_of(name), because=difference)
        return True

    @contextmanager
    def _claimed(self, name: str, *, manifest: VersionManifest) -> Iterator[None]:
        claim, content = f"{self._root}/.{name}.claim", manifest.digest().encode()
        # NB: all rests on this write, which S3, Google and Azure do on a condition. What fsspec
        # does for SFTP, SMB, HDFS and OCI is to look and then to write, and a second writer passes
        # in between; for WebDAV it takes no notice. Those are no targets (docs/log.md).
        try:
            self._files.pipe_file(claim, content, mode="create")
        except Exception:
            # Each store has its own exception for an object that is there already.
            if self._read(claim) is None:
                raise
        # Read even after success: a store that ignores the condition has let the last one win. A
        # claim of the same content is that of a job that was killed, or of one that does the same.
        if self._read(claim) != content:
            raise conflict(
                self.uri_of(name),
                because="is being published with other content, or a job died while it did so "
                f"(then delete {self._uri}/.{name}.claim)",
            )
        try:
            yield
        finally:
            self._remove([claim])

    def _upload(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> None:
        prefix = self._path(name, "")
        try:
            present = {path.removeprefix(prefix) for path in self._files.find(prefix)}
        except FileNotFoundError:
            present = set()
        # Files of this very version may be there: those of a job that was killed.
        foreign = sorted(present - manifest.files.keys())
        if foreign:
            raise conflict(self.uri_of(name), because=f"holds files of others ({foreign[0]})")
        try:
            for count, file in enumerate(manifest.files):
                progress("uploading", count, len(manifest.files))
                self._files.put_file(str(folder / file), self._path(name, file))
            difference = self._difference(name, manifest, progress=progress)
            if difference:
                raise not_written(  # noqa: TRY301 - cleaned up as after any failure
                    self.uri_of(name), because=difference
                )
            # NB: last. The version exists from here on.
            self._files.pipe_file(self._path(name, MANIFEST), (folder / MANIFEST).read_bytes())
        except BaseException:
            # Also when the stage is told to stop. The manifest goes first, since its write may
            # have worked although its answer was lost.
            self._remove([self._path(name, file) for file in (MANIFEST, *manifest.files)])
            raise

    def _difference(
        self, name: str, manifest: VersionManifest, *, progress: ProgressCallback
    ) -> str:
        """What differs at the target from the manifest; empty if nothing does."""
        for count, (file, wanted) in enumerate(manifest.files.items()):
            progress("reading back", count, len(manifest.files))
            if self._digest(self._path(name, file)) != wanted.digest:
                return f"{file} has another content or is missing"
        return ""

    def _digest(self, path: str) -> str | None:
        # Of the bytes, read back: an ETag is a digest for some stores and some sizes only.
        digest = hashlib.sha256()
        try:
            with self._files.open(path, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except FileNotFoundError:
            return None
        return f"sha256:{digest.hexdigest()}"

    def _read(self, path: str) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(path)
        except FileNotFoundError:
            return None
        return content

    def _remove(self, paths: list[str]) -> None:
        """Clean up as far as the store allows: what is left is no version without a manifest."""
        for path in paths:
            try:
                self._files.rm_file(path)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - the failure that led here is the one to tell
                LOGGER.warning("%s could not be removed (%s)", path, type(error).__name__)

    def _path(self, name: str, file: str) -> str:
        return f"{self._root}/{name}/{file}"
