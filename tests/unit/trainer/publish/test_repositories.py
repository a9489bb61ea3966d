"""publish into a registry and onto a hub, with the Secret's keys, and what comes out again."""

from pathlib import Path
from typing import Any

import pytest

from hub_server import hub_server, let_client_reach_stand_in
from registry_server import docker_config, registry_server
from tunesmith_engine.sources.credentials import DOCKER_CONFIG, Secret
from tunesmith_engine.sources.image_files import pull_image
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_trainer.publish.stage import publish
from verified_job import SilentReporter, make_verified_job, publish_request


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_verified_job(tmp_path / "job")


def published(root: Path, *, secret: dict[str, str], attempt: str, uri: str) -> StageOutcome:
    folder = root / "secrets" / "push"
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in secret.items():
        (folder / key).write_text(value)
    output: dict[str, Any] = {"uri": uri, "secretRef": {"name": "push"}, "version": "v1"}
    request = publish_request(root, output=root / "jobs" / attempt / "artifacts", **output)
    return publish(request, SilentReporter())


def test_a_version_goes_into_a_registry_once(root: Path, tmp_path: Path) -> None:
    with registry_server(tmp_path) as host:
        secret, uri = {DOCKER_CONFIG: docker_config(host)}, f"oci://{host}/lab/tickets"

        first = published(root, secret=secret, attempt="first", uri=uri)
        again = published(root, secret=secret, attempt="second", uri=uri)
        pulled = pull_image(
            f"{uri}:v1", secret=Secret(name="push", values=secret), folder=tmp_path / "pulled"
        )

    assert first.facts["uri"] == f"{uri}:v1"
    assert again.message.startswith("already published")
    assert manifest_of(pulled).digest() == first.artifacts[0].digest
    assert (pulled / "model.safetensors").is_file()


def test_a_version_goes_onto_a_hub_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_client_reach_stand_in(monkeypatch)
    with hub_server() as hub:
        secret = {"HF_TOKEN": "writer", "HF_ENDPOINT": hub.url}

        first = published(root, secret=secret, attempt="first", uri="hf://lab/tickets")
        again = published(root, secret=secret, attempt="second", uri="hf://lab/tickets")
        files = hub.files("lab/tickets", "v1")

    assert first.facts["uri"] == "hf://lab/tickets@v1"
    assert again.message.startswith("already published")
    assert {"README.md", "model.safetensors", MANIFEST} <= files.keys()
    assert b"writer" not in b"".join(files.values())
