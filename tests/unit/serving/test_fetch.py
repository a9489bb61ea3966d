"""A version from an object store, proven by its digest, or not there at all."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from hub_server import hub_server, let_client_reach_stand_in
from object_store import object_store
from registry_server import docker_config, registry_server
from small_sources import BUCKET, write_secret
from tunesmith_engine.sources.credentials import DOCKER_CONFIG, Secret
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest, manifest_of
from tunesmith_engine.stages.digests import digest_json
from tunesmith_serving.fetch import EXIT_RETRY, fetch

URI = f"s3://{BUCKET}/models/helpdesk/v1"
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("store") / "log") as endpoint:
        yield endpoint


@pytest.fixture
def secrets(tmp_path: Path, store: str) -> Path:
    folder = tmp_path / "secrets" / "models"
    folder.mkdir(parents=True)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": store}.items():
        (folder / name).write_text(value)
    return folder.parent


@pytest.fixture
def published(tmp_path: Path, store: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """The store's file system with one version in it, and the version's digest."""
    folder = tmp_path / "published"
    (folder / "extra").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "extra" / "notes.txt").write_text("notes")
    (folder / "draft").mkdir()
    (folder / "draft" / "model.safetensors").write_bytes(b"small")
    (folder / "exports" / "onnx-int4").mkdir(parents=True)
    (folder / "exports" / "onnx-int4" / "model.onnx").write_bytes(b"graph")
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text())
    files = fsspec.filesystem(
        "s3", key="id", secret="key", endpoint_url=store, use_listings_cache=False,
        client_kwargs={"region_name": "us-east-1"},
    )  # fmt: skip
    files.put(f"{folder}/", f"{URI.removeprefix('s3://')}/", recursive=True)
    yield files, manifest.digest()
    files.rm(URI.removeprefix("s3://"), recursive=True)


def words(target: Path, digest: str, secrets: Path) -> list[str]:
    return [URI, str(target), "--digest", digest, "--secret", "models", "--secrets", str(secrets)]


def test_the_whole_version_comes_and_a_second_start_finds_it(
    published: tuple[fsspec.AbstractFileSystem, str], secrets: Path, tmp_path: Path
) -> None:
    _, digest = published
    target = tmp_path / "model" / "version"

    assert fetch(words(target, digest, secrets)) == 0
    assert (target / "extra" / "notes.txt").read_text() == "notes"
    # What guesses tokens for it: without this the replica would not start.
    assert (target / "draft" / "model.safetensors").read_bytes() == b"small"
    # For devices: no server reads it.
    assert not (target / "exports").exists()
    manifest = VersionManifest.model_validate_json((target / MANIFEST).read_text())
    assert manifest.digest() == digest

    # Whole already: nothing is asked of the store.
    (secrets / "models" / "AWS_ENDPOINT_URL").write_text("http://127.0.0.1:9")
    assert fetch(words(target, digest, secrets)) == 0


def test_what_was_broken_here_is_fetched_again(
    published: tuple[fsspec.AbstractFileSystem, str], secrets: Path, tmp_path: Path
) -> None:
    _, digest = published
    target = tmp_path / "model" / "version"
    assert fetch(words(target, digest, secrets)) == 0
    (target / "model.safetensors").write_bytes(b"WEIGHTS")

    assert fetch(words(target, digest, secrets)) == 0
    assert (target / "model.safetensors").read_bytes() == b"weights"


def test_files_that_were_changed_in_the_store_are_refused(
    published: tuple[fsspec.AbstractFileSystem, str],
    secrets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, digest = published
    files.pipe_file(f"{URI}/model.safetensors", b"WEIGHTS")
    target = tmp_path / "model" / "version"

    assert fetch(words(target, digest, secrets)) == 2
    assert not target.exists()
    assert "is not what was published" in capsys.readouterr().err


def test_another_version_at_the_address_is_refused(
    published: tuple[fsspec.AbstractFileSystem, str],
    secrets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "model" / "version"

    assert fetch(words(target, f"sha256:{'0' * 64}", secrets)) == 2
    assert "holds no version" in capsys.readouterr().err


def test_files_outside_of_the_folder_are_refused(
    published: tuple[fsspec.AbstractFileSystem, str],
    secrets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, _ = published
    evil = {"files": {"../../evil": {"digest": "sha256:0", "bytes": 1}}}
    digest = digest_json([["../../evil", "sha256:0"]])
    files.pipe_file(f"{URI}/{MANIFEST}", json.dumps(evil).encode())

    assert fetch(words(tmp_path / "model" / "version", digest, secrets)) == 2
    assert "holds no version" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["hf", "oci"])
def test_a_tag_of_a_hub_or_a_registry_is_fetched(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_client_reach_stand_in(monkeypatch)
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text())
    with hub_server() as hub, registry_server(tmp_path) as host:
        values = {"HF_TOKEN": "writer", "HF_ENDPOINT": hub.url, DOCKER_CONFIG: docker_config(host)}
        write_secret(tmp_path / "secrets" / "models", values)
        uri = "hf://ada/helpdesk" if scheme == "hf" else f"oci://{host}/ada/helpdesk"
        target = open_target(uri, base=tmp_path, secret=Secret(name="models", values=values))
        target.deliver(folder, "v1", manifest=manifest, progress=lambda *_: None)
        arguments = [target.uri_of("v1"), str(tmp_path / "model"), "--digest", manifest.digest()]
        arguments += ["--secret", "models", "--secrets", str(tmp_path / "secrets")]

        assert fetch(arguments) == 0

    assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"weights"


def test_a_store_that_cannot_be_reached_is_tried_again(secrets: Path, tmp_path: Path) -> None:
    (secrets / "models" / "AWS_ENDPOINT_URL").write_text("http://127.0.0.1:9")

    code = fetch(words(tmp_path / "model" / "version", f"sha256:{'0' * 64}", secrets))

    assert code == EXIT_RETRY
