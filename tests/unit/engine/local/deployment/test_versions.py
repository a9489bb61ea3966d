"""Versions in the home folder, as a deployment reads them."""

import os
from pathlib import Path

import pytest

from laptop import MODEL, Laptop
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.local.deployment.versions import VersionFolders
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop.of(tmp_path)


@pytest.fixture
def folders(laptop: Laptop) -> VersionFolders:
    return VersionFolders(HomeFolder(laptop.home), spec=ModelDeploymentSpec(model=MODEL))


def test_a_published_version_can_be_served(laptop: Laptop, folders: VersionFolders) -> None:
    laptop.publish("v1")

    (version,) = folders.read()

    assert (version.version, version.problem) == ("v1", None)
    assert version.uri == (laptop.home / "models" / MODEL / "v1").as_uri()
    assert version.digest.startswith("sha256:")


def test_without_any_version_there_is_none(folders: VersionFolders) -> None:
    assert folders.read() == ()


def test_later_versions_are_newer(laptop: Laptop, folders: VersionFolders) -> None:
    for number, name in enumerate(("b", "a")):
        laptop.publish(name)
        os.utime(_file(laptop, name, MANIFEST), (number, number))

    created = {version.version: version.created for version in folders.read()}

    assert created["a"] > created["b"]


def test_half_a_version_is_none(laptop: Laptop, folders: VersionFolders) -> None:
    laptop.publish("v1")
    _file(laptop, "v1", MANIFEST).unlink()

    assert folders.read() == ()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (RECORD, "nonsense: [", "its record cannot be read"),
        (MANIFEST, "{}", "is no list of files"),
    ],
)
def test_what_cannot_be_read_is_a_problem_in_words(
    laptop: Laptop, folders: VersionFolders, file: str, text: str, said: str
) -> None:
    laptop.publish("v1")
    _file(laptop, "v1", file).write_text(text)

    (version,) = folders.read()

    assert version.problem is not None
    assert said in version.problem


def test_a_record_of_other_files_is_a_problem(laptop: Laptop, folders: VersionFolders) -> None:
    laptop.publish("v1")
    laptop.publish("v2", ttft=1.0)
    text = _file(laptop, "v2", RECORD).read_text()
    _file(laptop, "v1", RECORD).write_text(text.replace("v2", "v1"))

    problems = {version.version: version.problem for version in folders.read()}

    assert problems["v2"] is None
    assert "different digests" in (problems["v1"] or "")


def test_a_folder_that_was_moved_is_a_problem(laptop: Laptop, folders: VersionFolders) -> None:
    laptop.publish("v1")
    folder = laptop.home / "models" / MODEL
    (folder / "v1").rename(folder / "v2")

    (version,) = folders.read()

    assert "stays in the folder" in (version.problem or "")


def _file(laptop: Laptop, version: str, name: str) -> Path:
    return laptop.home / "models" / MODEL / version / name
