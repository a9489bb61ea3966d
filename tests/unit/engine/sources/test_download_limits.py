"""What is fetched has an end, and room, before it fills the disk of others."""

import gzip
import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources import downloads
from tunesmith_engine.sources.downloads import download_files, download_folder
from tunesmith_engine.sources.errors import DATA, MODEL, SourceError
from tunesmith_engine.sources.image_layers import unpack
from tunesmith_engine.sources.remote_store import RemoteFile, RemoteStore


def stored(content: bytes) -> tuple[RemoteStore, RemoteFile]:
    files = fsspec.filesystem("memory")
    files.pipe_file("/limits/rows.jsonl", content)
    store = RemoteStore(uri="memory://limits/rows.jsonl", filesystem=files, role=DATA)
    return store, store.files()[0]


def test_what_is_larger_than_the_disk_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    store, file = stored(b"x")
    too_large = replace(file, size=shutil.disk_usage(tmp_path).total * 2)

    with pytest.raises(SourceError, match="GiB left; make room") as refused:
        download_files(store, [too_large], folder=tmp_path / "cache")

    assert refused.value.reason is Reason.DISK_ESTIMATE_EXCEEDED
    assert not (tmp_path / "cache").exists()


def test_more_bytes_than_a_server_has_told_of_are_not_fetched(tmp_path: Path) -> None:
    store, file = stored(b"x" * 10_000)

    with pytest.raises(SourceError, match="came with more than the 100 bytes"):
        download_files(store, [replace(file, size=100)], folder=tmp_path)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_server_that_tells_no_size_has_an_end_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_MOST_UNTOLD_BYTES", 1000)
    store, file = stored(b"x" * 10_000)

    with pytest.raises(SourceError, match="not how much"):
        download_files(store, [replace(file, size=None)], folder=tmp_path)


def test_a_folder_of_more_files_than_anybody_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_MOST_FILES", 2)
    store, file = stored(b"x")

    names = [replace(file, path=f"{file.path}/{number}") for number in range(3)]
    with pytest.raises(SourceError, match="at most 2 are fetched"):
        download_folder(replace(store, role=MODEL), names, folder=tmp_path)


def layer(size: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as files:
        member = tarfile.TarInfo("models/a.json")
        member.size = size
        files.addfile(member, io.BytesIO(bytes(size)))
    return content.getvalue()


def test_a_layer_of_an_image_does_not_unfold(tmp_path: Path) -> None:
    archive = tmp_path / "layer"
    archive.write_bytes(gzip.compress(layer(1 << 20)))

    with pytest.raises(tarfile.TarError):
        unpack(archive, tmp_path / "out")

    archive.write_bytes(layer(10))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a.json").stat().st_size == 10
