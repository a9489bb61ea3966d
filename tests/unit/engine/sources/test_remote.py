"""s3:// and https:// sources, spoken to over loopback; hf:// without a network."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import huggingface_hub
import pytest

from small_models import safetensors, write_model
from small_sources import BUCKET, write_secret
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources import remote_store
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_FOLDER,
    ADAPTER_RECORD,
    ADAPTER_WEIGHTS,
)
from tunesmith_engine.sources.downloads import download_files, download_folder
from tunesmith_engine.sources.errors import DATA, MODEL, SourceError, as_stage_error
from tunesmith_engine.sources.fingerprints import (
    fingerprint_data,
    fingerprint_folder,
    fingerprint_model,
)
from tunesmith_engine.sources.hub_models import hub_model
from tunesmith_engine.sources.published_model import base_beside, read_published
from tunesmith_engine.sources.remote_store import RemoteStore
from tunesmith_engine.sources.resolver import (
    fetch_files,
    fetch_folder,
    fetch_model,
    local_model_path,
)
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, manifest_of
from tunesmith_engine.stages.errors import BadInputError, TransientError


@pytest.fixture
def places(tmp_path: Path, secrets: Path) -> dict[str, Path]:
    return {"base": tmp_path, "cache": tmp_path / "cache", "secrets": secrets}


def data_at(uri: str, *, secret: str | None = "bucket") -> DataSource:
    return DataSource.model_validate(
        {"uri": uri, "secretRef": {"name": secret} if secret else None}
    )


def tasks_at(uri: str) -> Suite:
    given = {"name": "arc", "task": "arc", "uri": uri, "secretRef": {"name": "bucket"}}
    return Suite.model_validate(given)


def model_at(uri: str) -> ModelSource:
    return ModelSource.model_validate({"uri": uri, "secretRef": {"name": "bucket"}})


def test_files_of_a_bucket_are_fetched_in_order(bucket: Any, places: dict[str, Path]) -> None:
    for name in ("b", "a"):
        bucket.pipe_file(f"{BUCKET}/rows/{name}.jsonl", name.encode())

    paths = fetch_files(data_at(f"s3://{BUCKET}/rows/*.jsonl"), **places)

    assert [path.read_text() for path in paths] == ["a", "b"]
    assert [path.name for path in paths] == ["a.jsonl", "b.jsonl"]


def test_what_was_fetched_is_not_fetched_again(bucket: Any, places: dict[str, Path]) -> None:
    bucket.pipe_file(f"{BUCKET}/rows.jsonl", b"one")
    (first,) = fetch_files(data_at(f"s3://{BUCKET}/rows.jsonl"), **places)
    before = first.stat().st_mtime_ns

    (again,) = fetch_files(data_at(f"s3://{BUCKET}/rows.jsonl"), **places)

    assert again == first
    assert again.stat().st_mtime_ns == before


def test_changed_content_is_fetched_and_has_another_fingerprint(
    bucket: Any, places: dict[str, Path]
) -> None:
    source = data_at(f"s3://{BUCKET}/rows.jsonl")
    bucket.pipe_file(f"{BUCKET}/rows.jsonl", b"one")
    before = fingerprint_data(source, **places)
    same = fingerprint_data(source, **places)

    bucket.pipe_file(f"{BUCKET}/rows.jsonl", b"two")

    assert same == before
    assert fingerprint_data(source, **places) != before
    assert fetch_files(source, **places)[0].read_bytes() == b"two"


def test_a_body_that_was_cut_off_is_retried_and_leaves_nothing_behind(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/cut/rows.jsonl", b"half")
    store = RemoteStore(uri="memory://cut/rows.jsonl", filesystem=files, role=DATA)
    (file,) = store.files()

    with pytest.raises(SourceError, match="came with 4 of 8 bytes") as caught:
        download_files(store, [replace(file, size=8)], folder=tmp_path)

    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert caught.value.retryable
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("key", ["../../planted.json", "a/../../../planted.json", "a//b", "./a"])
def test_a_key_that_leads_out_of_the_cache_is_refused_before_anything_is_fetched(
    key: str, tmp_path: Path
) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/model/a.json", b"planted")
    store = RemoteStore(uri="memory://model", filesystem=files, role=MODEL)
    (good,) = store.files_below()
    cache = tmp_path / "home" / "cache"

    with pytest.raises(SourceError, match="leads out of its folder") as caught:
        download_folder(store, [good, replace(good, path=f"/model/{key}")], folder=cache)

    assert caught.value.reason is Reason.BASE_MODEL_NOT_FOUND
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_whose_name_is_a_folder_is_refused(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/rows/a.jsonl", b"{}")
    store = RemoteStore(uri="memory://rows/*", filesystem=files, role=DATA)
    (good,) = store.files()

    with pytest.raises(SourceError, match="leads out of its folder"):
        download_files(store, [replace(good, path="/rows/..")], folder=tmp_path)


@pytest.mark.parametrize("uri", ["hf://owner/../x.gguf", "hf://owner/name/../../x.gguf"])
def test_a_hub_model_stays_in_its_own_part_of_the_cache(uri: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="write hf://OWNER/NAME"):
        hub_model(ModelSource(uri=uri), cache=tmp_path)
    with pytest.raises(SourceError, match="no branch, tag or commit"):
        hub_model(ModelSource(uri="hf://owner/name", revision="../../x"), cache=tmp_path)


def test_a_missing_object_and_a_missing_bucket_are_bad_input(
    bucket: Any, places: dict[str, Path]
) -> None:
    for uri in (f"s3://{BUCKET}/gone.jsonl", "s3://no-such-bucket/x", f"s3://{BUCKET}/*.csv"):
        with pytest.raises(SourceError) as caught:
            fetch_files(data_at(uri), **places)
        assert caught.value.reason is Reason.DATASET_NOT_FOUND
        assert isinstance(as_stage_error(caught.value), BadInputError)


def test_a_model_folder_of_a_bucket_comes_without_its_pickles(
    bucket: Any, places: dict[str, Path], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model")
    (model / "optimizer.pt").write_bytes(b"pickle")
    bucket.put(str(model), f"{BUCKET}/base", recursive=True)

    source = model_at(f"s3://{BUCKET}/base")
    path = fetch_model(source, **places)

    assert (path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert not (path / "optimizer.pt").exists()
    assert fetch_model(source, **places) == path
    assert fingerprint_model(source, **places).startswith("sha256:")


def test_a_folder_of_a_bucket_comes_whole(bucket: Any, places: dict[str, Path]) -> None:
    bucket.pipe_file(f"{BUCKET}/arc/arc.yaml", b"task: arc")
    bucket.pipe_file(f"{BUCKET}/arc/data/rows.jsonl", b"{}")
    source = tasks_at(f"s3://{BUCKET}/arc")
    before = fingerprint_folder(source, **places)

    folder = fetch_folder(source, **places)

    assert (folder / "arc.yaml").read_text() == "task: arc"
    assert (folder / "data" / "rows.jsonl").read_text() == "{}"
    bucket.pipe_file(f"{BUCKET}/arc/data/rows.jsonl", b"[]")
    assert fingerprint_folder(source, **places) != before


def test_an_empty_folder_of_a_bucket_is_missing(bucket: Any, places: dict[str, Path]) -> None:
    with pytest.raises(SourceError, match="nothing was found"):
        fetch_folder(tasks_at(f"s3://{BUCKET}/nowhere"), **places)


def test_the_version_of_an_adapter_alone_comes_with_what_proves_it(
    bucket: Any, places: dict[str, Path], tmp_path: Path
) -> None:
    """Text for people stays where it is; the base lies beside the versions."""
    digest = f"sha256:{'a' * 64}"
    version = tmp_path / "version"
    (version / ADAPTER_FOLDER).mkdir(parents=True)
    (version / ADAPTER_FOLDER / ADAPTER_WEIGHTS).write_bytes(safetensors({"lora_A": [2, 8]}))
    (version / ADAPTER_RECORD).write_text(json.dumps({"baseDigest": digest, "rank": 2}))
    for name in ("README.md", RECORD):
        (version / name).write_text("x")
    manifest = manifest_of(version)
    (version / MANIFEST).write_text(manifest.text())
    bucket.put(str(version), f"{BUCKET}/models/v1", recursive=True)
    source = model_at(f"s3://{BUCKET}/models/v1")

    path = fetch_model(source, **places)
    published = read_published(path, uri=source.uri, cache=places["cache"])

    assert not (path / "README.md").exists()
    assert published is not None
    assert (published.digest, published.is_version) == (manifest.digest(), True)
    assert published.adapter is not None
    assert not published.has_weights
    base = base_beside(source, digest=published.adapter.base_digest)
    assert base.uri == f"s3://{BUCKET}/models/bases/{'a' * 12}"
    assert base.secret_ref == source.secret_ref
    assert fingerprint_model(source, **places).startswith("sha256:")


def test_a_bucket_of_pickles_is_refused_before_it_is_fetched(
    bucket: Any, places: dict[str, Path]
) -> None:
    bucket.pipe_file(f"{BUCKET}/base/pytorch_model.bin", b"pickle")

    with pytest.raises(SourceError) as caught:
        fetch_model(model_at(f"s3://{BUCKET}/base"), **places)

    assert caught.value.reason is Reason.UNSAFE_WEIGHTS
    assert not (places["cache"] / "sources").exists()


def test_an_endpoint_that_does_not_answer_is_retried(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "_ATTEMPTS", 1)
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a",
              "AWS_SECRET_ACCESS_KEY": "very-secret-value"}  # fmt: skip
    write_secret(places["secrets"] / "nobody", nobody)

    with pytest.raises(SourceError) as caught:
        fetch_files(data_at("s3://b/x", secret="nobody"), **places)

    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert isinstance(as_stage_error(caught.value), TransientError)
    assert "very-secret-value" not in caught.value.message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, "one file per key"),
        ({}, "it holds no key"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "has no key AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_missing_secret_says_what_to_make(
    values: dict[str, str] | None, said: str, places: dict[str, Path]
) -> None:
    if values is not None:
        write_secret(places["secrets"] / "half", values)

    with pytest.raises(SourceError, match=said) as caught:
        fetch_files(data_at("s3://b/x", secret="half"), **places)

    assert caught.value.reason is Reason.SECRET_NOT_FOUND


def web_store(uri: str) -> RemoteStore:
    files = fsspec.filesystem("http", skip_instance_cache=True, use_listings_cache=False)
    return RemoteStore(uri=uri, filesystem=files, role=DATA)


@pytest.fixture
def https_is_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """https:// URIs are spoken to in plain HTTP: the server of the tests has no certificate."""

    def open_plain(uri: str, **_: Any) -> RemoteStore:
        return web_store(uri.replace("https://", "http://"))

    monkeypatch.setattr("tunesmith_engine.sources.resolver.open_store", open_plain)
    monkeypatch.setattr("tunesmith_engine.sources.fingerprints.open_store", open_plain)


@pytest.mark.usefixtures("https_is_http")
def test_a_file_of_a_web_server_is_fetched_and_watched(
    web: tuple[str, Path], places: dict[str, Path]
) -> None:
    address, folder = web
    (folder / "rows.jsonl").write_text("one")
    source = data_at(f"{address}/rows.jsonl".replace("http:", "https:"), secret=None)
    before = fingerprint_data(source, **places)

    (path,) = fetch_files(source, **places)
    (folder / "rows.jsonl").write_text("two!")

    assert path.read_text() == "one"
    assert path.name == "rows.jsonl"
    assert fingerprint_data(source, **places) != before


def test_a_web_server_without_the_file_is_bad_input(web: tuple[str, Path]) -> None:
    with pytest.raises(SourceError) as caught:
        web_store(f"{web[0]}/gone.jsonl").files()

    assert caught.value.reason is Reason.DATASET_NOT_FOUND


def test_a_web_server_that_is_not_there_is_retried() -> None:
    with pytest.raises(SourceError) as caught:
        web_store("http://127.0.0.1:9/rows.jsonl").files()

    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert caught.value.retryable


def test_a_bearer_token_is_sent_and_never_shown() -> None:
    from tunesmith_engine.sources.credentials import Secret

    secret = Secret(name="web", values={"HTTP_BEARER_TOKEN": "very-secret-value"})

    assert remote_store._https(secret)["client_kwargs"]["headers"] == {
        "Authorization": "Bearer very-secret-value"
    }
    assert "very-secret-value" not in repr(secret)


class Hub:
    """A hub that knows one commit, or fails."""

    commit = "c" * 40

    def __init__(self, folder: Path, *, names: list[str]) -> None:
        self.folder = folder
        self.names = names
        self.failure: Exception | None = None
        self.patterns: list[str] = []

    def model_info(self, *_: Any, **__: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        siblings = [type("Sibling", (), {"rfilename": name}) for name in self.names]
        return type("Info", (), {"sha": self.commit, "siblings": siblings})

    def snapshot_download(self, repository: str, *, cache_dir: Path, **given: Any) -> str:
        self.patterns = given["allow_patterns"]
        place = f"models--{repository.replace('/', '--')}"
        return str(write_model(cache_dir / place / "snapshots" / given["revision"]))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub = Hub(tmp_path, names=["config.json", "tokenizer.json", "model.safetensors"])
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def hub_source(**given: Any) -> ModelSource:
    return ModelSource(uri="hf://acme/base", **given)


@pytest.mark.parametrize("client", ["httpx", "httpx2"])
def test_the_signed_addresses_of_a_hubs_files_are_not_logged(
    client: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stage's log shows everything from INFO on."""
    caplog.set_level(logging.INFO)

    assert not logging.getLogger(client).isEnabledFor(logging.INFO)


def test_a_hub_model_is_fetched_without_pickles_and_known_by_its_commit(
    hub: Hub, places: dict[str, Path]
) -> None:
    path = fetch_model(hub_source(), **places)

    assert path.name == hub.commit
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in hub.patterns)
    assert fingerprint_model(hub_source(), **places) == f"commit:{hub.commit}"
    assert local_model_path(hub_source(), base=places["base"], cache=places["cache"]) == path


def test_without_a_network_the_commit_that_was_fetched_counts(
    hub: Hub, places: dict[str, Path]
) -> None:
    path = fetch_model(hub_source(), **places)
    hub.failure = ConnectionError()

    assert fetch_model(hub_source(), **places) == path
    assert fingerprint_model(hub_source(), **places) == f"commit:{hub.commit}"


def test_a_hub_of_pickles_is_refused(hub: Hub, places: dict[str, Path]) -> None:
    hub.names = ["config.json", "pytorch_model.bin"]

    with pytest.raises(SourceError) as caught:
        fetch_model(hub_source(), **places)

    assert caught.value.reason is Reason.UNSAFE_WEIGHTS


def failure(name: str, *, status: int) -> Exception:
    response = type("Response", (), {"status_code": status})
    error: Exception = type(name, (Exception,), {"response": response})("secret-token")
    return error


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("GatedRepoError", 403, Reason.MODEL_ACCESS_DENIED),
        ("RepositoryNotFoundError", 401, Reason.MODEL_ACCESS_DENIED),
        ("RepositoryNotFoundError", 404, Reason.BASE_MODEL_NOT_FOUND),
        ("RevisionNotFoundError", 404, Reason.BASE_MODEL_NOT_FOUND),
        ("HfHubHTTPError", 503, Reason.SOURCE_UNREACHABLE),
        ("HfHubHTTPError", 429, Reason.SOURCE_UNREACHABLE),
    ],
)
def test_the_hubs_answers_are_told_apart(
    name: str, status: int, reason: Reason, hub: Hub, places: dict[str, Path]
) -> None:
    hub.failure = failure(name, status=status)

    with pytest.raises(SourceError) as caught:
        fetch_model(hub_source(), **places)

    assert caught.value.reason is reason
    assert caught.value.retryable == (reason is Reason.SOURCE_UNREACHABLE)
    assert "secret-token" not in caught.value.message


def test_a_forbidden_network_says_so_and_is_not_retried(
    hub: Hub, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    hub.failure = ConnectionError()

    with pytest.raises(SourceError, match="HF_HUB_OFFLINE forbids") as caught:
        fetch_model(hub_source(), **places)

    assert not caught.value.retryable
