"""The home folder's layout, and what a stage inherits."""

import os
import stat
from pathlib import Path

import pytest

from tunesmith_api.finetunejob.status import FineTuneJobStatus, StageStatus
from tunesmith_engine.local.environments import Environments, stage_variables
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.locks import is_locked, lock_job
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import Environment


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a\n"])
def test_a_name_that_might_lead_out_of_the_home_is_refused(tmp_path: Path, *, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a job"):
        HomeFolder(tmp_path).job(name)


def test_jobs_are_listed_once_they_have_a_status(tmp_path: Path) -> None:
    home = HomeFolder(tmp_path)
    home.job("no-status").mkdir(parents=True)
    for name in ("b", "a"):
        home.write_status(name, FineTuneJobStatus(phase=TRAIN.phase))

    status = home.read_status("a")

    assert home.list_jobs() == ["a", "b"]
    assert status is not None
    assert status.phase == TRAIN.phase
    assert home.read_status("no-status") is None


def test_a_torn_status_is_passed_over(tmp_path: Path) -> None:
    home = HomeFolder(tmp_path)
    home.write_status("a", FineTuneJobStatus())
    (home.job("a") / "status.json").write_text('{"phase": "Tra')

    assert home.read_status("a") is None


def test_a_log_is_found_by_stage_and_attempt_of_the_keys_that_the_job_has_now(
    tmp_path: Path,
) -> None:
    home = HomeFolder(tmp_path)
    stage = StageStatus(name="train", key="ab" * 32)
    home.write_status("a", FineTuneJobStatus(stages=[stage]))

    log = home.log("a", stage="train", attempt=2)

    assert log == tmp_path / "jobs/a/stages/train/abababababababab/attempts/2/log.txt"


def test_versions_are_those_that_were_published_whole_the_newest_first(tmp_path: Path) -> None:
    home = HomeFolder(tmp_path)
    for age, name in enumerate(["new", "old"]):
        folder = home.models / "helpdesk" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        os.utime(folder / "manifest.json", (1000 - age, 1000 - age))
    (home.models / "helpdesk" / "half").mkdir()

    assert [each.name for each in home.versions("helpdesk")] == ["new", "old"]


def test_the_environments_variable_wins_over_the_neighbours_of_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path / "project/.venv"))
    monkeypatch.delenv("TUNESMITH_ENVIRONMENTS", raising=False)
    beside = Environments.discover()
    monkeypatch.setenv("TUNESMITH_ENVIRONMENTS", str(tmp_path / "given"))
    given = Environments.discover()
    python = given.root / Environment.SERVER / "bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/sh")

    assert beside.root == tmp_path / "project/.venvs"
    assert given.python(Environment.SERVER) == python


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "job/lock"
    before = is_locked(path)
    with lock_job(path, job="job"):
        during = is_locked(path)

    assert (before, during, is_locked(path)) == (False, True, False)


def test_a_stage_inherits_no_credentials_and_no_other_pythons_paths(tmp_path: Path) -> None:
    given = {
        "HF_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ACCESS_KEY_ID": "x",
        "GOOGLE_APPLICATION_CREDENTIALS": "x",
        "PGPASSWORD": "x",
        "MYSQL_PWD": "x",
        "SSH_AUTH_SOCK": "x",
        "GITHUB_PAT": "x",
        "KUBECONFIG": "x",
        "DATABASE_URL": "postgres://user:x@db/rows",
        "PYTHONPATH": "x",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "3",
        "PWD": "/home/x",
        "HTTPS_PROXY": "http://user:x@proxy:3128",
    }

    inherited = stage_variables(given, attempt=tmp_path)

    assert inherited == {
        "PWD": "/home/x",
        "HTTPS_PROXY": "http://user:x@proxy:3128",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "3",
        "GOMP_SPINCOUNT": "1000",
        "NO_COLOR": "1",
        "RAY_COLOR_PREFIX": "0",
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",
        "TUNESMITH_ATTEMPT": str(tmp_path),
    }


def test_a_home_folder_is_made_for_its_owner_alone_and_a_shared_one_stays_shared(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    for folder in (tmp_path / "own", shared):
        HomeFolder(folder).make()

    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
