"""Versions in a registry: an image that is pushed once, and the files that come out of it."""

import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry_server import docker_config, registry_server
from tunesmith_api.field_types import SecretReference
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import DOCKER_CONFIG, Secret, read_secret
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.image_files import pull_image
from tunesmith_engine.sources.image_layers import DIGEST_ANNOTATION, image_of
from tunesmith_engine.sources.registry import Registry
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_server(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def uri(host: str, tmp_path: Path) -> str:
    """A repository of its own."""
    return f"oci://{host}/lab/{tmp_path.name.strip('_').lower()}"


def secret_for(host: str, **values: str) -> Secret:
    return Secret(name="pull", values={DOCKER_CONFIG: docker_config(host, **values)})


def a_version(folder: Path, *, weights: bytes = b"weights") -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
    (folder / "config.json").write_text("{}")
    (folder / MANIFEST).write_text(manifest_of(folder).text())
    return folder


def deliver(uri: str, folder: Path, name: str = "v1") -> bool:
    host = uri.removeprefix("oci://").partition("/")[0]
    target = open_target(uri, base=Path(), secret=secret_for(host))
    manifest = manifest_of(folder)
    return target.deliver(folder, name, manifest=manifest, progress=lambda *_: None)


def manifest_at(uri: str, tag: str) -> Any:
    host, _, path = uri.removeprefix("oci://").partition("/")
    published = Registry(host, path, secret=secret_for(host)).manifest(tag)
    return published and published[1]


def test_a_version_comes_back_as_it_was(uri: str, host: str, tmp_path: Path) -> None:
    folder = a_version(tmp_path / "v")
    assert deliver(uri, folder)

    pulled = pull_image(f"{uri}:v1", secret=secret_for(host), folder=tmp_path / "pulled")

    assert manifest_of(pulled) == manifest_of(folder)
    assert (pulled / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    assert manifest_at(uri, "v1")["annotations"][DIGEST_ANNOTATION] == manifest_of(folder).digest()


def test_the_same_files_give_the_same_image_whenever_they_were_written(tmp_path: Path) -> None:
    folders = [a_version(tmp_path / name) for name in ("v", "w")]
    (folders[1] / "config.json").chmod(0o600)

    first, second = (
        image_of(folder, manifest_of(folder), model="helpdesk", version="v1") for folder in folders
    )

    assert first.manifest == second.manifest
    # Two of weights, and one of all that is small.
    assert len(first.layers) == 3


def test_layers_are_archives_with_all_below_models(tmp_path: Path) -> None:
    folder = a_version(tmp_path / "v")
    image = image_of(folder, manifest_of(folder), model="helpdesk", version="v1")

    names = set()
    for layer in image.layers:
        (tmp_path / "layer").write_bytes(b"".join(layer.content()))
        assert (tmp_path / "layer").stat().st_size == layer.num_bytes
        with tarfile.open(tmp_path / "layer") as archive:
            names |= {member.name for member in archive if member.isfile()}

    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert names == {f"models/{path}" for path in files}


def test_many_shards_share_layers(tmp_path: Path) -> None:
    folder = a_version(tmp_path / "v")
    for number in range(200):
        (folder / f"model-{number:05}.safetensors").write_bytes(b"")

    image = image_of(folder, manifest_of(folder), model="helpdesk", version="v1")

    assert len(image.layers) <= 65


def test_the_same_content_is_pushed_once(uri: str, tmp_path: Path) -> None:
    assert deliver(uri, a_version(tmp_path / "v"))
    assert not deliver(uri, a_version(tmp_path / "w"))


def test_other_content_under_a_tag_is_a_conflict(uri: str, tmp_path: Path) -> None:
    deliver(uri, a_version(tmp_path / "v"))

    with pytest.raises(SourceError) as caught:
        deliver(uri, a_version(tmp_path / "w", weights=b"others"))

    assert caught.value.reason is Reason.OUTPUT_CONFLICT


def test_a_tag_of_the_uri_moves_on(uri: str, tmp_path: Path) -> None:
    deliver(f"{uri}:latest", a_version(tmp_path / "v"))
    assert manifest_at(uri, "latest") == manifest_at(uri, "v1")

    deliver(f"{uri}:latest", a_version(tmp_path / "w", weights=b"others"), "v2")

    assert manifest_at(uri, "latest") == manifest_at(uri, "v2") != manifest_at(uri, "v1")


def test_who_may_write_is_asked_before_training(uri: str, host: str) -> None:
    open_target(uri, base=Path(), secret=secret_for(host)).require_writable()

    for secret in (secret_for(host, password="wrong-one"), Secret()):
        with pytest.raises(SourceError) as caught:
            open_target(uri, base=Path(), secret=secret).require_writable()
        assert caught.value.reason is Reason.PUBLISH_FAILED
        assert "was denied" in caught.value.message
        assert "wrong-one" not in caught.value.message


def test_a_mounted_pull_secret_is_read(tmp_path: Path) -> None:
    (tmp_path / "pull").mkdir()
    (tmp_path / "pull" / DOCKER_CONFIG).write_text(docker_config("registry.example"))
    secret = read_secret(SecretReference(name="pull"), secrets=tmp_path)

    with pytest.raises(SourceError, match=r"holds no credentials for other\.example"):
        open_target("oci://other.example/lab/model", base=Path(), secret=secret)


def test_a_registry_may_ask_for_a_token_of_its_own() -> None:
    """As Docker Hub, GitHub, Google and Azure do: Bearer, from an address that they name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _TokenRegistry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    try:
        assert Registry(host, "lab/model", secret=secret_for(host)).has_blob("sha256:0")
    finally:
        server.shutdown()
        server.server_close()


class _TokenRegistry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_known = self.headers.get("Authorization", "").startswith("Basic ")
        assert "scope=repository%3Alab%2Fmodel%3Apull%2Cpush" in self.path
        content = json.dumps({"token": "short-lived"}).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") == "Bearer short-lived":
            self.send_response(200)
        else:
            realm = f"http://{self.headers['Host']}/token"
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="test"')
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
