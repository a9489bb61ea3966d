"""Key and signature beside the files of a folder that is about to be published."""

from pathlib import Path

from tunesmith_engine.sources.version_manifest import SIGNATURE, VersionManifest, manifest_of
from tunesmith_engine.sources.version_signature import PUBLIC_KEY, Signer


def signed_manifest(folder: Path, signer: Signer | None) -> VersionManifest:
    """The manifest of `folder`, with the signature in both; without, where nobody signs.

    Raises:
        OSError: a file cannot be read or written.
    """
    for name in (PUBLIC_KEY, SIGNATURE):
        # Of a version that is continued: whoever publishes this one signs it, or nobody.
        (folder / name).unlink(missing_ok=True)
    if signer is None:
        return manifest_of(folder)
    # NB: the order. The digest covers the key, and the signature the digest.
    (folder / PUBLIC_KEY).write_text(signer.public_key, encoding="ascii")
    digest = manifest_of(folder).digest()
    (folder / SIGNATURE).write_text(signer.sign(digest), encoding="ascii")
    return manifest_of(folder)
