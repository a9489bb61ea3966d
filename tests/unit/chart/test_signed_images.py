"""Images in a registry: pushed with a signature, and refused where what is demanded is not there.

What nodes are told is what docs/task/sign-images.md shows, with the name of the registry here.
"""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from chart import container, rendered
from command import free_port
from container_tools import ROOT, WORD, Machine, machine_with_registry
from page_blocks import blocks_of
from signing_keys import p256, private_pem, public_pem

PUSH = ROOT / "scripts" / "push_images.sh"
PAGE = ROOT / "docs" / "task" / "sign-images.md"
NO_SIGNATURE = "A signature was required, but no signature exists"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine_with_registry(tmp_path_factory.mktemp("machine")) as here:
        yield here


@pytest.fixture(scope="module")
def keys(machine: Machine) -> None:
    """Two pairs, and where signatures lie, as the page has it."""
    made = [_make_key(machine, name) for name in ("release", "other")]
    if any(each.returncode for each in made):
        pytest.skip(
            "the skopeo on the PATH does not sign as sigstore does; it takes 1.11 or newer, and "
            "Debian 12's is built without"
        )
    for of in ("registry", "mirror"):
        _look_for_signatures(machine, of=of)


@pytest.fixture
def signing(machine: Machine, keys: None) -> Machine:
    """Under the policy of the page."""
    _demand(machine)
    return machine


def _make_key(machine: Machine, name: str) -> "subprocess.CompletedProcess[str]":
    (machine.home / "password").write_text(WORD)
    given = ("--output-prefix", machine.home / name, "--passphrase-file", machine.home / "password")
    return machine.skopeo("generate-sigstore-key", *given)


def _shown(language: str, words: str) -> str:
    """The first block of the page that holds these words."""
    blocks = (each for each in blocks_of(PAGE) if each.language == language)
    return next(each.text for each in blocks if words in each.text)


def _demand(machine: Machine, *, of: str = "registry", key: str = "release") -> None:
    """The policy of the page for its registry or its mirror, which are folders of one host here."""
    text = _shown("json", f'"{of}.example.com/ml": [')
    text = text.replace("/etc/containers/release.pub", str(machine.home / f"{key}.pub"))
    machine.demand(machine.named(text))


def _look_for_signatures(machine: Machine, *, of: str) -> None:
    text = _shown("yaml", "use-sigstore-attachments").replace("registry.", f"{of}.")
    (machine.settings / "registries.d" / f"{of}.yaml").write_text(machine.named(text))


@pytest.fixture
def folder(machine: Machine, tmp_path: Path) -> Path:
    """What scripts/build_images.sh leaves: archives."""
    for name in ("operator", "trainer"):
        machine.archive(tmp_path, name)
    return tmp_path


def test_what_is_pushed_signed_is_pulled_by_tag_and_by_the_digest_that_is_told(
    signing: Machine, folder: Path
) -> None:
    pushed = signing.push(folder, to="ml/whole")
    assert pushed.returncode == 0, pushed.stderr
    images = yaml.safe_load(pushed.stdout)["images"]

    assert sorted(images) == ["operator", "trainer"]
    for name, reference in images.items():
        assert (
            reference
            == f"{signing.host}/ml/whole/{name}@{signing.digest(f'ml/whole/{name}:0.1.0')}"
        )
        for asked in (f"ml/whole/{name}:0.1.0", reference.removeprefix(f"{signing.host}/")):
            pulled = signing.pull(asked)
            assert pulled.returncode == 0, pulled.stderr


def test_what_is_printed_are_values_by_which_the_chart_names_each_image(
    signing: Machine, folder: Path
) -> None:
    pushed = signing.push(folder, to="ml/values")

    values = yaml.safe_load(pushed.stdout)
    operator = container(rendered(values))
    assert operator["image"] == values["images"]["operator"]
    assert f"--trainer-image={values['images']['trainer']}" in operator["args"]


def test_the_signature_is_one_that_cosign_reads(
    signing: Machine, folder: Path, tmp_path: Path
) -> None:
    """Place, media type, annotation and payload are cosign's; no skopeo tries the key."""
    assert signing.push(folder, "operator", to="ml/format").returncode == 0
    digest = signing.digest("ml/format/operator:0.1.0")
    name = f"docker://{signing.host}/ml/format/operator:{digest.replace(':', '-')}.sig"
    # A signature is not signed itself.
    copied = signing.skopeo("--insecure-policy", "copy", name, f"dir:{tmp_path / 'signature'}")
    assert copied.returncode == 0, copied.stderr

    (layer,) = json.loads((tmp_path / "signature" / "manifest.json").read_text())["layers"]
    payload = (tmp_path / "signature" / layer["digest"].removeprefix("sha256:")).read_bytes()
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    critical = json.loads(payload)["critical"]
    assert critical["type"] == "cosign container image signature"
    assert critical["image"] == {"docker-manifest-digest": digest}
    assert critical["identity"] == {"docker-reference": f"{signing.host}/ml/format/operator:0.1.0"}
    key = load_pem_public_key((signing.home / "release.pub").read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))


def test_an_image_without_a_signature_is_refused(signing: Machine, folder: Path) -> None:
    signing.push_unsigned(folder / "operator.tar", "ml/bare/operator:0.1.0")

    assert NO_SIGNATURE in signing.pull("ml/bare/operator:0.1.0").stderr


def test_an_image_of_another_key_is_refused(signing: Machine, folder: Path) -> None:
    assert signing.push(folder, "operator", to="ml/foreign", key="other").returncode == 0

    pulled = signing.pull("ml/foreign/operator:0.1.0")

    assert pulled.returncode != 0
    assert "invalid signature" in pulled.stderr


def test_an_image_that_was_put_under_the_tag_of_a_signed_one_is_refused(
    signing: Machine, folder: Path
) -> None:
    """Who may write to the registry tries it without a signature, and with that of the other."""
    name = "ml/replaced/operator:0.1.0"
    assert signing.push(folder, "operator", to="ml/replaced").returncode == 0
    signed = signing.digest(name)
    assert signing.pull(name).returncode == 0

    signing.push_unsigned(signing.archive(folder, "operator", text="replaced"), name)
    replaced = signing.digest(name)
    assert replaced != signed
    assert NO_SIGNATURE in signing.pull(name).stderr

    old, new = (
        f"docker://{signing.host}/ml/replaced/operator:{each.replace(':', '-')}.sig"
        for each in (signed, replaced)
    )
    copied = signing.skopeo("--insecure-policy", "copy", old, new)
    assert copied.returncode == 0, copied.stderr
    pulled = signing.pull(name)
    assert pulled.returncode != 0
    assert f"Signature for digest {signed} does not match" in pulled.stderr
    # The signed one is there still, for whoever names it by digest.
    assert signing.pull(f"ml/replaced/operator@{signed}").returncode == 0


def test_an_older_signed_image_under_a_newer_tag_is_refused(signing: Machine, folder: Path) -> None:
    assert signing.push(folder, "operator", to="ml/older").returncode == 0
    name = f"docker://{signing.host}/ml/older/operator"
    assert signing.skopeo("copy", f"{name}:0.1.0", f"{name}:0.2.0").returncode == 0

    pulled = signing.pull("ml/older/operator:0.2.0")

    assert pulled.returncode != 0
    assert "Signature for identity" in pulled.stderr


def test_a_mirror_stands_for_the_registry_that_was_signed_for(
    signing: Machine, folder: Path
) -> None:
    assert signing.push(folder, "operator").returncode == 0
    mirror = f"docker://{signing.host}/mirror/ml/operator:0.1.0"
    source = f"docker://{signing.host}/ml/operator:0.1.0"
    copied = signing.skopeo("copy", "--preserve-digests", source, mirror)
    assert copied.returncode == 0, copied.stderr

    _demand(signing, of="mirror")
    pulled = signing.pull("mirror/ml/operator:0.1.0")
    assert pulled.returncode == 0, pulled.stderr

    signing.push_unsigned(folder / "trainer.tar", "mirror/ml/operator:0.1.0")
    assert NO_SIGNATURE in signing.pull("mirror/ml/operator:0.1.0").stderr


def test_an_image_signed_under_an_old_and_a_new_key_is_pulled_by_either(
    signing: Machine, folder: Path
) -> None:
    keys = ("release", "other")
    assert [signing.push(folder, "operator", to="ml/both", key=key).returncode for key in keys] == [
        0,
        0,
    ]

    for key in keys:
        _demand(signing, key=key)
        pulled = signing.pull("ml/both/operator:0.1.0")
        assert pulled.returncode == 0, pulled.stderr


def test_where_the_key_cannot_be_used_nothing_is_pushed(machine: Machine, folder: Path) -> None:
    """Neither by a wrong password, nor by a skopeo that lacks sigstore, as Debian 12's does."""
    key = machine.home / "locked.private"
    box = base64.b64encode(b'{"kdf":{"name":"scrypt"},"ciphertext":""}').decode()
    key.write_text(_pem("ENCRYPTED SIGSTORE PRIVATE KEY", box))

    pushed = machine.push(folder, to="ml/locked", key="locked")

    assert pushed.returncode == 2
    assert "nothing was pushed" in pushed.stderr
    assert pushed.stdout == ""
    assert (
        machine.skopeo("list-tags", f"docker://{machine.host}/ml/locked/operator").returncode != 0
    )


def _pem(kind: str, text: str) -> str:
    return f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n"


def test_a_wrong_password_pushes_nothing(signing: Machine, folder: Path) -> None:
    pushed = signing.push(folder, to="ml/word", password="guessed")

    assert (pushed.returncode, pushed.stdout) == (2, "")
    assert "nothing was pushed" in pushed.stderr
    assert signing.skopeo("list-tags", f"docker://{signing.host}/ml/word/operator").returncode != 0


def test_a_registry_that_cannot_be_reached_is_told(signing: Machine, folder: Path) -> None:
    address = f"127.0.0.1:{free_port()}/ml"
    given = ("--key", signing.key("release"))

    pushed = signing.run(PUSH, folder, address, *given, COSIGN_PASSWORD=WORD)

    assert (pushed.returncode, pushed.stdout) == (2, "")
    assert "connection refused" in pushed.stderr
    assert f"{address}/operator:0.1.0 was not pushed" in pushed.stderr


def _refusal(*arguments: str | Path) -> str:
    """What is said of bad input, which is found before any tool is needed."""
    done = subprocess.run(
        [PUSH, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Of the right form, and no more."""
    path = tmp_path / "release.private"
    path.write_text(_pem("ENCRYPTED SIGSTORE PRIVATE KEY", ""))
    return path


@pytest.mark.parametrize("kind", ["ImageValidatingPolicy", "ClusterImagePolicy"])
def test_what_admission_is_told_is_about_these_images_and_holds_a_public_key(kind: str) -> None:
    """As far as it goes without the controllers."""
    shown = _shown("yaml", f"kind: {kind}")

    spec = yaml.safe_load(shown)["spec"]
    (images,) = spec["images" if kind == "ClusterImagePolicy" else "matchImageReferences"]
    assert images == {"glob": "registry.example.com/ml/*"}
    (by,) = spec["authorities" if kind == "ClusterImagePolicy" else "attestors"]
    load_pem_public_key(by.get("cosign", by)["key"]["data"].encode())


def test_help_says_what_it_does() -> None:
    done = subprocess.run([PUSH, "--help"], capture_output=True, text=True, check=True)

    assert "FOLDER REGISTRY/PREFIX --key KEY" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["images"], ["images", "r.example.com/ml"], ["images", "r.example.com/ml", "--key"]],
)
def test_what_is_left_out_is_told_with_the_usage(arguments: list[str]) -> None:
    assert "usage: scripts/push_images.sh FOLDER REGISTRY/PREFIX --key KEY" in _refusal(*arguments)


def test_an_unknown_option_is_refused(key: Path) -> None:
    assert "no option --sign" in _refusal("images", "r.example.com/ml", "--key", key, "--sign")


@pytest.mark.parametrize(
    "prefix",
    [
        "ml",
        "ml/images",
        "https://r.example.com/ml",
        "r.example.com",
        "r.example.com/ml:1",
        "r.example.com/ML",
    ],
)
def test_what_is_no_registry_with_a_folder_is_refused(
    prefix: str, tmp_path: Path, key: Path
) -> None:
    assert f"{prefix} is no REGISTRY/PREFIX" in _refusal(tmp_path, prefix, "--key", key)


def test_keys_that_do_not_do_are_refused(tmp_path: Path) -> None:
    def refusal(text: str) -> str:
        (tmp_path / "key").write_text(text)
        return _refusal(tmp_path, "r.example.com/ml", "--key", tmp_path / "key")

    assert "is a public key" in refusal(public_pem(p256()))
    for text in (private_pem(p256()), private_pem(p256(), password=b"word"), "nonsense", ""):
        assert "cosign import-key-pair --key" in refusal(text)
    missing = tmp_path / "missing"
    assert f"no file {missing}" in _refusal(tmp_path, "r.example.com/ml", "--key", missing)


def test_archives_that_are_missing_or_something_else_are_refused(tmp_path: Path, key: Path) -> None:
    given = (tmp_path, "r.example.com/ml", "--key", key)
    assert f"no archive lies in {tmp_path}" in _refusal(*given)
    assert f"there is no {tmp_path}/trainer.tar" in _refusal(*given, "trainer")

    (tmp_path / "trainer.tar").write_bytes(b"no archive")
    assert f"{tmp_path}/trainer.tar is no archive that" in _refusal(*given)


def test_without_a_password_and_a_terminal_it_says_so(
    folder: Path, machine: Machine, key: Path
) -> None:
    done = machine.run(PUSH, folder, "r.example.com/ml", "--key", key)

    assert done.returncode == 2
    assert "COSIGN_PASSWORD is not set" in done.stderr
