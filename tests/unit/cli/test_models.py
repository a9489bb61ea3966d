"""`models`: every published version that this machine knows of."""

import json
import os
from pathlib import Path

import pytest
import yaml

from job_folders import a_finished_job
from tunesmith_cli.main import main
from tunesmith_cli.model_list import published_versions
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, manifest_of

DIGEST = f"sha256:{'0' * 64}"


def publish(home: Path, model: str, version: str, *, loss: float = 2.4) -> Path:
    """A version as `publish` leaves it, with little in it."""
    folder = home / "models" / model / version
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    record = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-{version}"},
        "spec": {
            "model": model, "version": version, "uri": folder.as_uri(), "digest": DIGEST,
            "scheme": "W8A8",
            "files": [{"name": "model.safetensors", "uri": "x", "digest": DIGEST, "bytes": 1000}],
            "lineage": {"job": "made-it", "baseModel": "file:///m", "baseRevision": "1",
                        "dataDigest": DIGEST},
            "evaluation": [{"suite": "heldOut", "split": "compressed", "metric": "loss",
                            "value": loss, "n": 3}],
        },
    }  # fmt: skip
    (folder / RECORD).write_text(yaml.safe_dump(record))
    (folder / MANIFEST).write_text(manifest_of(folder).text())
    return folder


def test_versions_are_listed_by_model_with_what_made_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, "tickets", "a1")
    publish(tmp_path, "chat", "b2", loss=1.9)
    a_finished_job(tmp_path)

    assert main(["models", "--home", str(tmp_path)]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:]] == [
        ["chat", "b2"], ["helpdesk", "1a2b3c4d5e6f"], ["tickets", "a1"],
    ]  # fmt: skip
    assert lines[1][2:4] == ["W8A8", "1.9"]
    assert "made-it" in lines[1]


def test_one_model_as_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish(tmp_path, "tickets", "a1")
    publish(tmp_path, "chat", "b2")

    assert main(["models", "tickets", "--home", str(tmp_path), "--output", "json"]) == 0

    (version,) = json.loads(capsys.readouterr().out)["versions"]
    assert (version["uri"], version["heldOutLoss"]) == (folder.as_uri(), 2.4)
    assert version["bytes"] > 1000


def test_an_unknown_model_is_refused_with_a_near_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, "tickets", "a1")

    assert main(["models", "tickts", "--home", str(tmp_path)]) == 2
    assert "did you mean 'tickets'?" in capsys.readouterr().err


def test_a_home_without_models_says_what_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no models in ")


def test_a_damaged_version_is_listed_with_its_fault(tmp_path: Path) -> None:
    folder = publish(tmp_path, "tickets", "a1")
    (folder / RECORD).write_text("kind: [")

    (version,) = published_versions(HomeFolder(tmp_path))

    assert version.version == "a1"
    assert version.problem.startswith("its record cannot be read")


def test_the_newest_version_stands_first(tmp_path: Path) -> None:
    for place, version in enumerate(("a1", "b2", "c3")):
        folder = publish(tmp_path, "tickets", version)
        os.utime(folder / MANIFEST, (1000 + place, 1000 + place))

    assert [one.version for one in published_versions(HomeFolder(tmp_path))] == ["c3", "b2", "a1"]
