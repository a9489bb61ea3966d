"""`prune` and `delete`: what goes, what stays, and what they say of it."""

import json
import shutil
from pathlib import Path

import pytest

from job_folders import a_failed_job, a_finished_job, key_of
from tunesmith_cli.main import main
from tunesmith_engine.local.locks import lock_job


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    a_finished_job(folder)
    a_failed_job(folder)
    return folder


@pytest.fixture
def own_home(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(home, tmp_path / "home"))


@pytest.fixture
def pruned_home(own_home: Path) -> Path:
    """Both jobs have a folder of a key that they no longer have."""
    for name in ("helpdesk", "refused"):
        old = own_home / "jobs" / name / "stages/train/0123456789abcdef/artifacts"
        old.mkdir(parents=True)
        (old / "weights").write_bytes(bytes(1 << 20))
    return own_home


def old_folders(home: Path) -> list[str]:
    return sorted(path.parts[-4] for path in home.glob("jobs/*/stages/train/0123456789abcdef"))


def test_prune_removes_the_old_folders_of_one_job_or_of_all(
    pruned_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(pruned_home)]

    assert main(["prune", "--dry-run", *home]) == 0
    assert "would free 2.0 MiB" in capsys.readouterr().out
    assert old_folders(pruned_home) == ["helpdesk", "refused"]

    assert main(["prune", "helpdesk", *home]) == 0
    assert "freed 1.0 MiB" in capsys.readouterr().out
    assert old_folders(pruned_home) == ["refused"]

    assert main(["prune", "--output", "json", *home]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["dryRun"], printed["bytes"]) == (False, 1 << 20)
    assert [(gone["job"], gone["kind"]) for gone in printed["removed"]] == [("refused", "stage")]

    assert main(["prune", *home]) == 0
    assert capsys.readouterr().out.startswith("nothing to remove")


def test_prune_refuses_a_job_that_runs_and_passes_over_it_among_others(
    pruned_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(pruned_home)]
    with lock_job(pruned_home / "jobs/helpdesk/lock", job="helpdesk"):
        refused = main(["prune", "helpdesk", *home])
        passed = main(["prune", *home])

    assert (refused, passed) == (2, 0)
    assert "left alone: job 'helpdesk' is being run" in capsys.readouterr().err
    assert old_folders(pruned_home) == ["helpdesk"]


def weigh(path: Path, *, mebibytes: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(mebibytes << 20))
    return path


def test_checkpoints_of_a_training_that_is_done_go_and_those_of_one_that_failed_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done, failed = a_finished_job(tmp_path), a_failed_job(tmp_path)
    checkpoint = "artifacts/checkpoints/step-6/weights.safetensors"
    spent = weigh(done.folder / "stages/train" / key_of("train")[:16] / checkpoint)
    needed = weigh(failed.folder / "stages/evaluate" / key_of("evaluate")[:16] / checkpoint)

    assert main(["prune", "--home", str(tmp_path)]) == 0

    assert (spent.exists(), needed.exists()) == (False, True)
    printed = capsys.readouterr().out
    assert "checkpoints of a stage that is done" in printed
    assert "freed 1.0 MiB" in printed
    # What the stage made counts as before: the next run passes it by.
    assert (done.folder / "stages/train" / key_of("train")[:16] / "result.json").exists()


def test_what_killed_commands_left_half_written_goes(tmp_path: Path) -> None:
    a_finished_job(tmp_path)
    gone = [
        weigh(tmp_path / "cache/models/.abc.17/model.safetensors"),
        weigh(tmp_path / "cache/files/0f/.rows.jsonl.1a2b3c4d"),
        weigh(tmp_path / "cache/sources/0f.partial/model.safetensors"),
        weigh(tmp_path / "models/helpdesk/.publishing-1a2b/model.safetensors"),
    ]
    whole = weigh(tmp_path / "cache/models/abc/model.safetensors")

    assert main(["prune", "--home", str(tmp_path)]) == 0

    assert [path.exists() for path in gone] == [False] * 4
    assert whole.exists()


def test_the_cache_goes_where_that_is_asked_for_but_for_what_a_job_has_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = a_finished_job(tmp_path)
    used = weigh(tmp_path / "cache/models/used/model.safetensors")
    result = job.results["prepare"]
    model = result.artifacts[0].model_copy(
        update={"name": "model", "uri": used.parent.as_uri(), "bytes": 1 << 20}
    )
    told = result.model_copy(update={"artifacts": [*result.artifacts, model]})
    path = job.folder / "stages/prepare" / key_of("prepare")[:16] / "result.json"
    path.write_text(told.model_dump_json(by_alias=True))
    unused = weigh(tmp_path / "cache/models/unused/model.safetensors", mebibytes=2)
    digests = weigh(tmp_path / "cache/digests/1.json")

    assert main(["prune", "--cache", "--home", str(tmp_path)]) == 0

    assert (used.exists(), unused.exists(), digests.exists()) == (True, False, True)
    assert "freed 2.0 MiB" in capsys.readouterr().out


def test_the_cache_is_left_alone_while_a_job_runs(tmp_path: Path) -> None:
    a_finished_job(tmp_path)
    kept = weigh(tmp_path / "cache/models/unused/model.safetensors")

    with lock_job(tmp_path / "jobs/helpdesk/lock", job="helpdesk"):
        assert main(["prune", "--cache", "--home", str(tmp_path)]) == 0

    assert kept.exists()


def test_delete_frees_everything_of_a_job_and_keeps_the_others(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weigh(own_home / "jobs/refused/stages/train/0123456789abcdef/weights")

    assert main(["delete", "refused", "--yes", "--home", str(own_home)]) == 0

    captured = capsys.readouterr()
    assert captured.out.startswith("deleted job 'refused', 1.0 MiB")
    assert "published (stays)" in captured.err
    assert [path.name for path in (own_home / "jobs/refused").iterdir()] == ["lock"]
    assert main(["status", "refused", "--home", str(own_home)]) == 2
    assert main(["status", "helpdesk", "--home", str(own_home)]) == 0


def test_delete_asks_and_takes_a_no(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "\n", raising=False)

    assert main(["delete", "helpdesk", "--home", str(own_home)]) == 1
    assert "nothing was deleted" in capsys.readouterr().err
    assert (own_home / "jobs/helpdesk/status.json").exists()

    monkeypatch.setattr("sys.stdin.readline", lambda: "y\n", raising=False)
    assert main(["delete", "helpdesk", "--home", str(own_home)]) == 0
    assert not (own_home / "jobs/helpdesk/status.json").exists()


def test_delete_without_a_terminal_needs_yes(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    assert main(["delete", "helpdesk", "--home", str(own_home)]) == 2
    assert "give --yes" in capsys.readouterr().err


def test_a_misspelt_name_among_several_deletes_none(own_home: Path) -> None:
    assert main(["delete", "helpdesk", "refusd", "--yes", "--home", str(own_home)]) == 2

    assert (own_home / "jobs/helpdesk/status.json").exists()


def test_a_job_that_runs_is_not_deleted(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock_job(own_home / "jobs/helpdesk/lock", job="helpdesk"):
        assert main(["delete", "helpdesk", "--yes", "--home", str(own_home)]) == 2

    assert "job 'helpdesk' is being run" in capsys.readouterr().err
    assert (own_home / "jobs/helpdesk/status.json").exists()
