"""Who published a version: ECDSA over P-256, as cosign's `sign-blob` and openssl write and read it.

What is signed is the text whose SHA-256 is the version's digest: every file with its digest, in
order of path. So one signature covers all that a replica loads. The signer's public key is one of
these files: the same content of another signer, or of none, is another version. It says who to ask,
and proves nothing; readers verify with a key that they were given by other ways.
"""

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.version_manifest import SIGNATURE, VersionManifest

# The key of the secret that `output.signing.secretRef` names.
SIGNING_KEY: Final = "signing.key"
PUBLIC_KEY: Final = "signing.pub"
_PREFIX: Final = "sha256:"
# Two numbers of 32 bytes, with their headers, in base64; with room for line breaks.
_MAX_SIGNATURE_BYTES: Final = 256
_HOW: Final = "`openssl ecparam -name prime256v1 -genkey -noout` writes one"


class Signer:
    """The private key of a secret; neither it nor its text is shown anywhere."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> str:
        """PEM of what readers verify with."""
        key = self._key.public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    def sign(self, digest: str) -> str:
        """The signature of the version of that `digest`, in base64."""
        # NB: deterministic, after RFC 6979. A stage that runs again has to write the same bytes.
        algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
        signature = self._key.sign(_hash_of(digest), algorithm)
        return base64.b64encode(signature).decode("ascii")


def read_signer(secret: Secret) -> Signer:
    """The signer whose key the secret holds.

    Raises:
        SourceError: SecretNotFound, it holds none, or a key that does not do.
    """
    text = secret.require(SIGNING_KEY)
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # NB: `from None`: what the library says may tell of the key.
        raise _unfit(secret, because=_why_unreadable(text)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unfit(secret, because="holds a key of another kind")
    return Signer(key)


def why_unsigned(folder: Path, manifest: VersionManifest, keys: Sequence[str]) -> str | None:
    """Why none of the public `keys`, each in PEM, has signed the version in `folder`.

    None where one has. That its files are those of `manifest` is for the caller to prove.

    Raises:
        ValueError: a key is none; its text names which.
        OSError: the signature cannot be read.
    """
    verifiers = [_public_key(text, place=place) for place, text in enumerate(keys)]
    if SIGNATURE not in manifest.files or not (folder / SIGNATURE).is_file():
        return "it is not signed, and its signature is demanded; publish it with output.signing"
    with (folder / SIGNATURE).open("rb") as file:
        text = file.read(_MAX_SIGNATURE_BYTES + 1)
    try:
        signature = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        return f"{SIGNATURE} is no signature in base64"
    if len(text) <= _MAX_SIGNATURE_BYTES and any(
        _is_signed_by(key, signature, manifest.digest()) for key in verifiers
    ):
        return None
    known = ", ".join(key_id(text) for text in keys)
    return (
        f"its signature is by none of the keys that are trusted ({known}), or of other content; "
        f"{_claimed_signer(folder)}"
    )


def key_id(pem: str) -> str:
    """A short name of a public key, for people to compare: of the digest of its DER."""
    der = base64.b64decode("".join(pem.strip().splitlines()[1:-1]))
    return f"{_PREFIX}{sha256(der).hexdigest()[:16]}"


def _claimed_signer(folder: Path) -> str:
    try:
        pem = (folder / PUBLIC_KEY).read_text(encoding="ascii")
        _public_key(pem, place=0)
    except (OSError, ValueError):
        return f"it holds no readable {PUBLIC_KEY} either"
    return f"it says that it is by {key_id(pem)}"


def _is_signed_by(key: ec.EllipticCurvePublicKey, signature: bytes, digest: str) -> bool:
    try:
        key.verify(signature, _hash_of(digest), ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def _public_key(pem: str, *, place: int) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(  # noqa: TRY004 - of the text, not of its type
            f"public key {place + 1} is no ECDSA P-256 key in PEM; "
            "`openssl ec -in signing.key -pubout` writes it"
        )
    return key


def _hash_of(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix(_PREFIX))


def _why_unreadable(text: str) -> str:
    if "ENCRYPTED" in text:
        return "is encrypted, and nobody is there to type its password"
    return "is no private key in PEM"


def _unfit(secret: Secret, *, because: str) -> SourceError:
    return SourceError(
        Reason.SECRET_NOT_FOUND,
        f"{SIGNING_KEY} of secret '{secret.name}' {because}; an ECDSA P-256 key in PEM is needed, "
        f"without a password: {_HOW}.",
    )
