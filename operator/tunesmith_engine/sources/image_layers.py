"""The files of a version as the layers of an OCI image: below /models, equal files as equal bytes.

Layers are not compressed, since weights hardly shrink, and each file of weights is one of its own:
what two versions share is pushed and kept once.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tunesmith_engine.sources.registry import MANIFEST_TYPE
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest

# Where KServe's modelcars have a model.
MODELS: Final = "models"
DIGEST_ANNOTATION: Final = "dev.tunesmith.version-digest"
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
# overlayfs takes about twice as many.
_MAX_LAYERS: Final = 64
_WEIGHTS: Final = ".safetensors"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """An archive of files below `folder`, made anew each time it is read."""

    folder: Path
    names: tuple[str, ...]
    digest: str
    num_bytes: int

    def content(self) -> Iterator[bytes]:
        """The bytes of the archive."""
        return _archive(self.folder, self.names)


@dataclass(frozen=True, slots=True)
class Image:
    """What is pushed: layers, settings, and the manifest that names them."""

    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes

    @property
    def config_digest(self) -> str:
        """The name of the settings as a blob."""
        return _digest(self.config)


def image_of(folder: Path, manifest: VersionManifest, *, model: str, version: str) -> Image:
    """The image of the version in `folder`; the same files give the same image.

    Raises:
        OSError: a file cannot be read.
    """
    layers = tuple(_layer(folder, names) for names in _groups(manifest))
    config = _json(
        {
            # No program is in it: any machine may mount it.
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{"created_by": "tunesmith publish"} for _ in layers],
        }
    )
    descriptors = [_descriptor(_LAYER_TYPE, layer.digest, layer.num_bytes) for layer in layers]
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(_CONFIG_TYPE, _digest(config), len(config)),
        "layers": descriptors,
        "annotations": {
            DIGEST_ANNOTATION: manifest.digest(),
            "org.opencontainers.image.title": model,
            "org.opencontainers.image.version": version,
        },
    }
    return Image(layers, config, _json(content))


def unpack(archive: Path, folder: Path) -> None:
    """Put the files of a layer into `folder`, without the folder that they lie in.

    Raises:
        tarfile.TarError: it is no archive, or leads out of the folder.
    """
    # NB: as it is. What is compressed, or sparse, may unfold to any size.
    with tarfile.open(archive, "r:") as files:
        for member in files:
            path = PurePosixPath(member.name)
            if member.issparse():
                raise tarfile.ExtractError(f"{member.name} is a sparse file")
            if member.isfile() and path.parts[:1] == (MODELS,) and len(path.parts) > 1:
                member.name = str(path.relative_to(MODELS))
                files.extract(member, folder, filter="data")


def _groups(manifest: VersionManifest) -> Iterator[tuple[str, ...]]:
    """The names of each layer's files: small ones in the last, with all that changes."""
    names = sorted([*manifest.files, MANIFEST])
    weights = [name for name in names if name.endswith(_WEIGHTS)]
    size = -(-len(weights) // _MAX_LAYERS) or 1
    for start in range(0, len(weights), size):
        yield tuple(weights[start : start + size])
    yield tuple(name for name in names if not name.endswith(_WEIGHTS))


def _layer(folder: Path, names: tuple[str, ...]) -> Layer:
    digest, num_bytes = hashlib.sha256(), 0
    for chunk in _archive(folder, names):
        digest.update(chunk)
        num_bytes += len(chunk)
    return Layer(folder, names, f"sha256:{digest.hexdigest()}", num_bytes)


def _archive(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    """A tar without times, owners or the rights of this machine."""
    parents = {parent for name in names for parent in (PurePosixPath(MODELS) / name).parents}
    for parent in sorted(parents - {PurePosixPath()}):
        header = tarfile.TarInfo(str(parent))
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        yield header.tobuf()
    for name in names:
        header = tarfile.TarInfo(f"{MODELS}/{name}")
        header.size, header.mode = (folder / name).stat().st_size, 0o644
        yield header.tobuf()
        with (folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        yield bytes(-header.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _descriptor(media_type: str, digest: str, num_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": num_bytes}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
