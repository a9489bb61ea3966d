"""A repository of an OCI registry: every version is a tag, which means one image for ever.

Blobs are named by their digests, which the registry proves, and the manifest, which makes a version
of them, is written last. A registry cannot refuse to overwrite a tag: two jobs that publish other
content under one name at the same moment are not kept apart.
"""

from pathlib import Path

from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import TARGET, SourceError, translate_error
from tunesmith_engine.sources.image_layers import DIGEST_ANNOTATION, Image, image_of
from tunesmith_engine.sources.registry import Registry
from tunesmith_engine.sources.target import ProgressCallback, conflict, damaged, not_written
from tunesmith_engine.sources.version_manifest import VersionManifest


def repository_at(uri: str, *, secret: Secret) -> tuple[Registry, str]:
    """The repository of an oci:// URI, and its tag, which may be empty."""
    host, _, path = uri.removeprefix("oci://").rstrip("/").partition("/")
    repository, _, tag = path.partition(":")
    return Registry(host, repository, secret=secret), tag


class ImageTarget:
    """The repository at `oci://REGISTRY/REPOSITORY`; a `:TAG` moves on to what is published."""

    def __init__(self, uri: str, *, secret: Secret) -> None:
        self._registry, self._moving_tag = repository_at(uri, secret=secret)
        self._uri = uri.rstrip("/").removesuffix(f":{self._moving_tag}")

    def uri_of(self, name: str) -> str:
        """The URI of the tag."""
        return f"{self._uri}:{name}"

    def require_writable(self) -> None:
        """See `Target`; an upload is begun, and taken back."""
        try:
            self._registry.try_upload()
        except Exception as error:
            raise translate_error(error, uri=self._uri, role=TARGET) from error

    def deliver(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        """See `Target`."""
        try:
            is_new = not self._is_published(name, manifest=manifest)
            if is_new:
                progress("digesting layers", 0, 1)
                model = self._uri.rpartition("/")[2]
                image = image_of(folder, manifest, model=model, version=name)
                self._push(image, name, progress=progress)
            if self._moving_tag and (published := self._registry.manifest(name)) is not None:
                self._registry.put_manifest(self._moving_tag, published[0])
        except (SourceError, OSError):
            raise
        except Exception as error:
            raise translate_error(error, uri=self.uri_of(name), role=TARGET) from error
        return is_new

    def _is_published(self, name: str, *, manifest: VersionManifest) -> bool:
        """Whether the tag is there; its blobs are looked for again, as it is relied on."""
        published = self._registry.manifest(name)
        if published is None:
            return False
        digest = published[1].get("annotations", {}).get(DIGEST_ANNOTATION)
        if digest is None:
            raise conflict(self.uri_of(name), because="exists and is no published version")
        if digest != manifest.digest():
            raise conflict(self.uri_of(name), because="holds a version with other content")
        for blob in (published[1]["config"], *published[1]["layers"]):
            if not self._registry.has_blob(blob["digest"]):
                raise damaged(self.uri_of(name), because=f"the blob {blob['digest']} is missing")
        return True

    def _push(self, image: Image, name: str, *, progress: ProgressCallback) -> None:
        for count, layer in enumerate(image.layers):
            progress("uploading layers", count, len(image.layers))
            if not self._registry.has_blob(layer.digest):
                self._registry.put_blob(layer.digest, layer.content, num_bytes=layer.num_bytes)
        self._registry.put_blob(
            image.config_digest, lambda: iter([image.config]), num_bytes=len(image.config)
        )
        # NB: last. The version exists from here on.
        self._registry.put_manifest(name, image.manifest)
        published = self._registry.manifest(name)
        if published is None or published[0] != image.manifest:
            raise not_written(self.uri_of(name), because="the tag means another image")
