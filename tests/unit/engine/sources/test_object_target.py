"""Versions in an object store: the manifest comes last, and two writers never mix."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest

from small_sources import BUCKET
from tunesmith_api.field_types import SecretReference
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources import object_target
from tunesmith_engine.sources.credentials import NO_SECRET, read_secret
from tunesmith_engine.sources.errors import TARGET, SourceError
from tunesmith_engine.sources.object_target import ObjectTarget
from tunesmith_engine.sources.remote_store import RemoteStore
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of

URI = f"s3://{BUCKET}/models"
PREFIX = f"{BUCKET}/models"


def silent(_: str, _done: int, _total: int) -> None:
    """Progress that nobody reads."""


def a_version(folder: Path, *, weights: bytes = b"weights") -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "deep" / "notes.txt").write_text("notes")
    (folder / MANIFEST).write_text(manifest_of(folder).text())
    return folder


def deliver(folder: Path, *, secrets: Path) -> bool:
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)
    target = open_target(URI, base=folder, secret=secret)
    return target.deliver(folder, "v1", manifest=manifest_of(folder), progress=silent)


def refusal(folder: Path, *, secrets: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        deliver(folder, secrets=secrets)
    assert "very-secret-value" not in caught.value.message
    return caught.value


def test_a_version_arrives_whole_and_leaves_no_claim(
    bucket: Any, secrets: Path, tmp_path: Path
) -> None:
    assert deliver(a_version(tmp_path / "v"), secrets=secrets)

    assert sorted(bucket.find(BUCKET)) == [
        f"{PREFIX}/v1/{name}" for name in ("deep/notes.txt", MANIFEST, "model.safetensors")
    ]


def test_the_same_content_is_delivered_once(bucket: Any, secrets: Path, tmp_path: Path) -> None:
    folder = a_version(tmp_path / "v")

    assert deliver(folder, secrets=secrets)
    assert not deliver(folder, secrets=secrets)


def test_other_content_is_a_conflict(bucket: Any, secrets: Path, tmp_path: Path) -> None:
    deliver(a_version(tmp_path / "v"), secrets=secrets)

    error = refusal(a_version(tmp_path / "w", weights=b"other"), secrets=secrets)

    assert error.reason is Reason.OUTPUT_CONFLICT
    assert bucket.cat_file(f"{PREFIX}/v1/model.safetensors") == b"weights"


def test_a_name_that_another_job_claims_is_a_conflict(
    bucket: Any, secrets: Path, tmp_path: Path
) -> None:
    bucket.pipe_file(f"{PREFIX}/.v1.claim", b"sha256:other")

    error = refusal(a_version(tmp_path / "v"), secrets=secrets)

    assert error.reason is Reason.OUTPUT_CONFLICT
    assert f"delete {URI}/.v1.claim" in error.message
    assert bucket.find(f"{PREFIX}/v1") == []


def test_what_a_killed_job_left_is_completed(bucket: Any, secrets: Path, tmp_path: Path) -> None:
    folder = a_version(tmp_path / "v")
    bucket.pipe_file(f"{PREFIX}/.v1.claim", manifest_of(folder).digest().encode())
    bucket.pipe_file(f"{PREFIX}/v1/model.safetensors", b"half")

    assert deliver(folder, secrets=secrets)
    assert bucket.cat_file(f"{PREFIX}/v1/model.safetensors") == b"weights"


def test_files_of_others_are_left_alone(bucket: Any, secrets: Path, tmp_path: Path) -> None:
    bucket.pipe_file(f"{PREFIX}/v1/mine.txt", b"mine")

    error = refusal(a_version(tmp_path / "v"), secrets=secrets)

    assert error.reason is Reason.OUTPUT_CONFLICT
    assert sorted(bucket.find(BUCKET)) == [f"{PREFIX}/v1/mine.txt"]


def test_bytes_that_change_on_the_way_are_found_and_nothing_is_left(
    bucket: Any, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_target.ObjectTarget, "_digest", lambda *_: "sha256:flipped")

    error = refusal(a_version(tmp_path / "v"), secrets=secrets)

    assert error.reason is Reason.PUBLISH_FAILED
    assert bucket.find(BUCKET) == []


def test_a_damaged_version_is_not_passed_off_as_published(
    bucket: Any, secrets: Path, tmp_path: Path
) -> None:
    folder = a_version(tmp_path / "v")
    deliver(folder, secrets=secrets)
    bucket.pipe_file(f"{PREFIX}/v1/model.safetensors", b"flipped")

    assert refusal(folder, secrets=secrets).reason is Reason.PUBLISH_FAILED


def test_a_bucket_that_is_not_there_is_said_to_be_missing(
    s3_endpoint: str, secrets: Path, tmp_path: Path
) -> None:
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)
    target = open_target("s3://no-such-bucket/models", base=tmp_path, secret=secret)
    folder = a_version(tmp_path / "v")

    with pytest.raises(SourceError) as caught:
        target.deliver(folder, "v1", manifest=manifest_of(folder), progress=silent)

    assert caught.value.reason is Reason.PUBLISH_FAILED


@pytest.fixture
def memory() -> Iterator[ObjectTarget]:
    """Another file system of fsspec: what the target asks of it is no speciality of S3."""
    files = fsspec.filesystem("memory")
    yield ObjectTarget(RemoteStore(uri="memory://models", filesystem=files, role=TARGET))
    files.rm("/models", recursive=True)


def test_any_file_system_that_can_create_exclusively_is_a_target(
    memory: ObjectTarget, tmp_path: Path
) -> None:
    folder, other = a_version(tmp_path / "v"), a_version(tmp_path / "w", weights=b"other")

    first = memory.deliver(folder, "v1", manifest=manifest_of(folder), progress=silent)
    again = memory.deliver(folder, "v1", manifest=manifest_of(folder), progress=silent)
    with pytest.raises(SourceError) as conflict:
        memory.deliver(other, "v1", manifest=manifest_of(other), progress=silent)

    assert (first, again) == (True, False)
    assert conflict.value.reason is Reason.OUTPUT_CONFLICT
    assert fsspec.filesystem("memory").find("/models") == [
        f"/models/v1/{name}" for name in ("deep/notes.txt", MANIFEST, "model.safetensors")
    ]


@pytest.mark.skipif(find_spec("adlfs") is not None, reason="the driver is installed here")
@pytest.mark.parametrize("scheme", ["abfs", "az"])
def test_a_target_whose_driver_is_missing_names_the_package(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"needs the package adlfs.*install it there") as caught:
        open_target(f"{scheme}://models/tiny", base=tmp_path, secret=NO_SECRET)

    assert caught.value.reason is Reason.ENVIRONMENT_MISSING
    assert not caught.value.retryable


def test_a_target_is_tried_by_an_object_that_is_gone_again(
    bucket: Any, secrets: Path, tmp_path: Path
) -> None:
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)

    open_target(URI, base=tmp_path, secret=secret).require_writable()

    assert bucket.find(BUCKET) == []


def test_a_target_that_cannot_be_written_is_refused_before_there_is_a_version(
    s3_endpoint: str, secrets: Path, tmp_path: Path
) -> None:
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)

    with pytest.raises(SourceError) as caught:
        open_target("s3://no-such-bucket/models", base=tmp_path, secret=secret).require_writable()

    assert caught.value.reason is Reason.PUBLISH_FAILED


def test_a_folder_is_tried_without_making_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = open_target("file://models/deep", base=tmp_path, secret=NO_SECRET)
    below_file = open_target("file://file/models", base=tmp_path, secret=NO_SECRET)

    target.require_writable()
    with pytest.raises(SourceError, match=r"output\.uri: .* is no folder"):
        below_file.require_writable()

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_this_account_may_not_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, whom the rights of a folder do not stop."""
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    target = open_target("file://models", base=tmp_path, secret=NO_SECRET)

    with pytest.raises(SourceError, match=f"no right to write to {tmp_path}"):
        target.require_writable()
