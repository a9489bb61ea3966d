"""Versions on the hub: one commit and its tag, by the hub's own client against a stand-in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Hub, hub_server, let_client_reach_stand_in
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.target import Target
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, manifest_of

URI = "hf://ada/helpdesk"
NAME = "ada/helpdesk"
VERSION_FILES = {"README.md", "adapter/a.json", "model.safetensors", MANIFEST, RECORD}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub_server() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Empty again."""
    let_client_reach_stand_in(monkeypatch)
    for held in (server.repositories, server.blobs, server.asked):
        held.clear()
    server.refuse_tags = False
    return server


def target_at(hub: Hub, uri: str = URI, *, token: str = "writer", private: bool = True) -> Target:
    secret = Secret(name="hub", values={"HF_TOKEN": token, "HF_ENDPOINT": hub.url})
    return open_target(uri, base=Path(), secret=secret, private=private)


def a_version(folder: Path, *, weights: bytes = b"weights", record: str = "first") -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text("# Helpdesk\n")
    (folder / "adapter" / "a.json").write_text("{}")
    (folder / RECORD).write_text(record)
    (folder / MANIFEST).write_text(manifest_of(folder).text())
    return folder


def deliver(target: Target, folder: Path, name: str = "v1") -> bool:
    manifest = manifest_of(folder)
    return target.deliver(folder, name, manifest=manifest, progress=lambda *_: None)


def test_a_version_is_a_tag_of_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    assert deliver(target_at(hub), a_version(tmp_path / "v"))

    assert target_at(hub).uri_of("v1") == "hf://ada/helpdesk@v1"
    assert hub.repositories[NAME].private
    assert set(hub.files(NAME, "v1")) == VERSION_FILES | {".gitattributes"}
    assert hub.files(NAME, "main") == hub.files(NAME, "v1")
    # The hub's first, and one for all files.
    assert len(hub.repositories[NAME].commits) == 2


def test_a_repository_is_public_where_that_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    deliver(target_at(hub, private=False), a_version(tmp_path / "v"))

    assert not hub.repositories[NAME].private


def test_the_same_content_is_found_there_whatever_its_record_says(hub: Hub, tmp_path: Path) -> None:
    assert deliver(target_at(hub), a_version(tmp_path / "v"))
    assert not deliver(target_at(hub), a_version(tmp_path / "w", record="second"))

    assert len(hub.repositories[NAME].commits) == 2


def test_other_content_under_a_name_is_a_conflict(hub: Hub, tmp_path: Path) -> None:
    deliver(target_at(hub), a_version(tmp_path / "v"))

    with pytest.raises(SourceError) as caught:
        deliver(target_at(hub), a_version(tmp_path / "w", weights=b"others"))

    assert caught.value.reason is Reason.OUTPUT_CONFLICT
    assert hub.files(NAME, "v1")["model.safetensors"] == b"weights"


def test_the_next_version_leaves_nothing_of_the_last_at_the_branch(
    hub: Hub, tmp_path: Path
) -> None:
    first = a_version(tmp_path / "v")
    (first / "old.json").write_text("{}")
    deliver(target_at(hub), first)

    deliver(target_at(hub), a_version(tmp_path / "w", weights=b"others"), "v2")

    assert "old.json" in hub.files(NAME, "v1")
    assert "old.json" not in hub.files(NAME, "main")
    assert hub.files(NAME, "main")["model.safetensors"] == b"others"


def test_a_branch_of_its_own_leaves_main_alone(hub: Hub, tmp_path: Path) -> None:
    deliver(target_at(hub, f"{URI}@nightly"), a_version(tmp_path / "v"))

    assert set(hub.files(NAME, "main")) == {".gitattributes"}
    assert hub.files(NAME, "nightly") == hub.files(NAME, "v1")


def test_what_a_job_committed_before_it_was_killed_is_only_tagged(hub: Hub, tmp_path: Path) -> None:
    hub.refuse_tags = True
    with pytest.raises(SourceError) as caught:
        deliver(target_at(hub), a_version(tmp_path / "v"))
    assert caught.value.retryable

    hub.refuse_tags = False
    assert deliver(target_at(hub), a_version(tmp_path / "w", record="second"))

    assert len(hub.repositories[NAME].commits) == 2
    assert "v1" in hub.repositories[NAME].refs


@pytest.mark.parametrize(
    ("uri", "token", "words"),
    [
        (URI, "reader", "may only read"),
        (URI, "revoked", "was denied"),
        ("hf://others/helpdesk", "writer", "no member of others"),
    ],
)
def test_what_a_token_may_not_is_said_before_training_and_without_it(
    hub: Hub, uri: str, token: str, words: str
) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        target_at(hub, uri, token=token).require_writable()

    assert caught.value.reason is Reason.PUBLISH_FAILED
    assert token not in caught.value.message.replace("reader", "")
    assert not [asked for asked in hub.asked if asked.startswith(("POST", "PUT"))]


@pytest.mark.parametrize("uri", [URI, "hf://lab/helpdesk"])
def test_a_token_that_may_write_passes_and_nothing_is_made(hub: Hub, uri: str) -> None:
    target_at(hub, uri).require_writable()

    assert hub.repositories == {}


def test_a_token_is_needed(hub: Hub) -> None:
    with pytest.raises(SourceError, match="HF_TOKEN") as caught:
        open_target(URI, base=Path(), secret=Secret(name="hub"))

    assert caught.value.reason is Reason.SECRET_NOT_FOUND
