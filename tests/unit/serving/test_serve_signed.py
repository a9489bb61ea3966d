"""Which versions `serve` and a replica of adapters refuse for their signature."""

import socket
from pathlib import Path
from typing import Any

import pytest

from signing_keys import other_kinds, p256, private_pem, public_pem
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.verification import Verification
from tunesmith_engine.deployment.adapter_list import WantedAdapter
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_engine.deployment.serve_command import serve_arguments
from tunesmith_engine.sources.adapter_version import ADAPTER_RECORD, AdapterRecord
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.version_manifest import MANIFEST, SIGNATURE, manifest_of
from tunesmith_engine.sources.version_signature import PUBLIC_KEY, read_signer
from tunesmith_serving.replica.adapter_files import AdapterRefused, prove_adapter
from tunesmith_serving.serve import serve
from tunesmith_serving.settings import ServingSettings

KEY = p256()
SETTINGS = ServingSettings(
    model="helpdesk", dtype="float32", enforce_eager=True, max_model_length=2048
)
BASE = f"sha256:{'a' * 64}"


class BecameServerError(Exception):
    """Instead of execve, which never returns."""


@pytest.fixture(autouse=True)
def became(monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(*_: Any) -> None:
        raise BecameServerError

    monkeypatch.setattr("os.execve", execve)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "serving.json").write_text(SETTINGS.model_dump_json(by_alias=True))
    record = AdapterRecord(base_digest=BASE, rank=8)
    (folder / ADAPTER_RECORD).write_text(record.model_dump_json(by_alias=True))
    return folder


def sign(folder: Path, key: Any = KEY) -> Path:
    signer = read_signer(Secret("release", {"signing.key": private_pem(key)}))
    (folder / PUBLIC_KEY).write_text(signer.public_key)
    (folder / SIGNATURE).write_text(signer.sign(manifest_of(folder).digest()))
    return listed(folder)


def listed(folder: Path) -> Path:
    (folder / MANIFEST).write_text(manifest_of(folder).text())
    return folder


def served(folder: Path, *keys: Any) -> int:
    """With the words that a deployment of these keys uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    spec = ModelDeploymentSpec(
        model="helpdesk", verification=Verification(public_keys=[public_pem(key) for key in keys])
    )
    revision = DesiredRevision(
        revision="0123abcd",
        version="v2",
        digest=manifest_of(folder).digest(),
        uri=folder.as_uri(),
        replicas=1,
    )
    words = serve_arguments(revision, spec, folder=str(folder), host="127.0.0.1", port=port)
    return serve(words[words.index("serve") + 1 :])


def test_a_signed_version_is_served_where_its_signature_is_demanded(version: Path) -> None:
    sign(version)

    for keys in ((KEY,), (p256(), KEY), ()):
        with pytest.raises(BecameServerError):
            served(version, *keys)


def test_one_without_a_signature_is_not(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert served(listed(version), KEY) == 2
    assert "is not served: it is not signed" in capsys.readouterr().err


def test_one_of_another_signer_is_not(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert served(sign(version, p256()), KEY) == 2
    assert "none of the keys that are trusted" in capsys.readouterr().err


def test_one_that_was_changed_with_its_manifest_is_not(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(version)
    (version / "model.safetensors").write_bytes(b"others")

    assert served(listed(version), KEY) == 2
    assert "or of other content" in capsys.readouterr().err


def test_a_file_that_was_added_or_changed_alone_is_found_by_the_manifest(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(version)
    (version / "more.safetensors").write_bytes(b"others")

    assert served(version, KEY) == 2
    assert capsys.readouterr().err


def test_a_key_may_be_a_file_and_one_of_another_kind_is_refused(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(version)
    good, bad = tmp_path / "good.pub", tmp_path / "bad.pub"
    good.write_text(public_pem(KEY))
    bad.write_text(public_pem(other_kinds()["RSA"]))

    with pytest.raises(BecameServerError):
        serve([str(version), "--port", "18231", "--public-key", str(good)])
    assert serve([str(version), "--port", "18231", "--public-key", str(bad)]) == 2
    assert "public key 1 is no ECDSA P-256 key" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        serve([str(version), "--public-key", str(tmp_path / "none.pub")])


def test_an_adapter_is_held_to_the_same_keys(version: Path) -> None:
    keys = [public_pem(KEY)]
    wanted = WantedAdapter(
        revision="0123abcd",
        version="v2",
        digest=manifest_of(listed(version)).digest(),
        folder=str(version),
    )
    prove_adapter(wanted, base_digest=BASE)
    with pytest.raises(AdapterRefused, match="not signed"):
        prove_adapter(wanted, base_digest=BASE, public_keys=keys)
    sign(version)
    signed = wanted.model_copy(update={"digest": manifest_of(version).digest()})

    prove_adapter(signed, base_digest=BASE, public_keys=keys)
