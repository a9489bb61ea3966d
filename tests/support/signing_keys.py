"""Keys to sign versions with, and keys that do not do; made anew for each run."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tunesmith_engine.sources.version_signature import SIGNING_KEY


def p256() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that is asked for."""
    return ec.generate_private_key(ec.SECP256R1())


def other_kinds() -> dict[str, Any]:
    """Private keys of other kinds, by name."""
    return {
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
        "RSA": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }


def private_pem(key: Any, *, password: bytes | None = None) -> str:
    """As openssl writes it."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode())


def public_pem(key: Any) -> str:
    """As `openssl ec -pubout` writes it."""
    public = key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def keep(secrets: Path, name: str, pem: str) -> None:
    """As the secret `name` of a home folder."""
    (secrets / name).mkdir(parents=True, exist_ok=True)
    (secrets / name / SIGNING_KEY).write_text(pem)
