"""Signatures of versions: what is accepted, what is refused, and that openssl agrees."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from signing_keys import other_kinds, p256, private_pem, public_pem
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.version_manifest import (
    RECORD,
    SIGNATURE,
    VersionManifest,
    manifest_of,
)
from tunesmith_engine.sources.version_signature import (
    PUBLIC_KEY,
    key_id,
    read_signer,
    why_unsigned,
)

KEY = p256()
TRUSTED = [public_pem(KEY)]


def signed_version(folder: Path, key: Any = KEY) -> VersionManifest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / RECORD).write_text("uri: here")
    signer = read_signer(Secret("release", {"signing.key": private_pem(key)}))
    (folder / PUBLIC_KEY).write_text(signer.public_key)
    (folder / SIGNATURE).write_text(signer.sign(manifest_of(folder).digest()))
    return manifest_of(folder)


def test_a_version_is_known_by_the_key_that_signed_it(tmp_path: Path) -> None:
    manifest = signed_version(tmp_path)

    assert why_unsigned(tmp_path, manifest, TRUSTED) is None
    assert why_unsigned(tmp_path, manifest, [public_pem(p256()), *TRUSTED]) is None


def test_the_signature_is_no_part_of_what_is_signed_and_signing_twice_writes_the_same(
    tmp_path: Path,
) -> None:
    first = signed_version(tmp_path)
    text = (tmp_path / SIGNATURE).read_text()
    second = signed_version(tmp_path)

    assert (first, text) == (second, (tmp_path / SIGNATURE).read_text())


def test_the_same_content_of_another_signer_is_another_version(tmp_path: Path) -> None:
    one, other = signed_version(tmp_path / "a"), signed_version(tmp_path / "b", p256())

    assert one.digest() != other.digest()


def test_openssl_accepts_it_over_the_list_of_files_and_digests(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    manifest = signed_version(tmp_path / "version")
    listed = [
        [name, file.digest]
        for name, file in sorted(manifest.files.items())
        if name not in {RECORD, SIGNATURE}
    ]
    (tmp_path / "signed").write_text(json.dumps(listed, separators=(",", ":")))
    text = (tmp_path / "version" / SIGNATURE).read_text()
    (tmp_path / "raw").write_bytes(base64.b64decode(text))
    key, raw = str(tmp_path / "version" / PUBLIC_KEY), str(tmp_path / "raw")

    command = [openssl, "dgst", "-sha256", "-verify", key, "-signature", raw]
    told = subprocess.run([*command, str(tmp_path / "signed")], check=True, capture_output=True)

    assert b"Verified OK" in told.stdout


def test_a_version_of_another_signer_names_both(tmp_path: Path) -> None:
    other = p256()
    why = why_unsigned(tmp_path, signed_version(tmp_path, other), TRUSTED)

    assert why is not None
    assert f"none of the keys that are trusted ({key_id(TRUSTED[0])})" in why
    assert f"it says that it is by {key_id(public_pem(other))}" in why


def test_what_was_changed_after_it_was_signed_is_refused(tmp_path: Path) -> None:
    """Even where manifest and digest were changed with it."""
    signed_version(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"others")

    why = why_unsigned(tmp_path, manifest_of(tmp_path), TRUSTED)

    assert why is not None
    assert "or of other content" in why


def test_another_key_beside_the_same_signature_is_refused(tmp_path: Path) -> None:
    """The key in the version proves nothing by itself."""
    signed_version(tmp_path, p256())
    (tmp_path / PUBLIC_KEY).write_text(TRUSTED[0])

    assert why_unsigned(tmp_path, manifest_of(tmp_path), TRUSTED) is not None


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "A" * 100_000, "\N{SNOWMAN}"])
def test_what_is_no_signature_is_refused(tmp_path: Path, text: str) -> None:
    signed_version(tmp_path)
    (tmp_path / SIGNATURE).write_text(text)

    assert why_unsigned(tmp_path, manifest_of(tmp_path), TRUSTED) is not None


def test_a_version_without_a_signature_is_refused(tmp_path: Path) -> None:
    manifest = signed_version(tmp_path)
    (tmp_path / SIGNATURE).unlink()
    bare = VersionManifest(files={name: manifest.files[name] for name in ["model.safetensors"]})

    for each in (manifest, bare):
        assert "not signed" in (why_unsigned(tmp_path, each, TRUSTED) or "")


@pytest.mark.parametrize("kind", sorted(other_kinds()))
def test_a_trusted_key_of_another_kind_is_an_error(tmp_path: Path, kind: str) -> None:
    keys = [*TRUSTED, public_pem(other_kinds()[kind])]

    with pytest.raises(ValueError, match="public key 2 is no ECDSA P-256 key"):
        why_unsigned(tmp_path, signed_version(tmp_path), keys)


@pytest.mark.parametrize("kind", sorted(other_kinds()))
def test_a_signing_key_of_another_kind_is_refused(kind: str) -> None:
    secret = Secret("release", {"signing.key": private_pem(other_kinds()[kind])})

    with pytest.raises(SourceError, match="of secret 'release' holds a key of another kind"):
        read_signer(secret)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----", "no private key"),
        (public_pem(KEY), "no private key"),
        (private_pem(KEY, password=b"secret"), "is encrypted"),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0\n-----END", "is encrypted"),
    ],
    # Each process that collects these tests has other keys.
    ids=["broken", "public", "password", "sigstore"],
)
def test_a_text_that_is_no_signing_key_is_refused_without_being_shown(
    text: str, because: str
) -> None:
    with pytest.raises(SourceError) as caught:
        read_signer(Secret("release", {"signing.key": text}))

    assert caught.value.reason is Reason.SECRET_NOT_FOUND
    assert because in caught.value.message
    assert "openssl ecparam" in caught.value.message
    assert text.splitlines()[1] not in caught.value.message


def test_a_secret_without_the_key_says_which_it_lacks() -> None:
    with pytest.raises(SourceError, match=r"secret 'release' has no key signing\.key"):
        read_signer(Secret("release", {"other": "x"}))
