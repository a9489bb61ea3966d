"""`status`, `logs`, `report` and `serve` on home folders as runs leave them behind."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from command import tunesmith
from job_folders import a_failed_job, a_finished_job, a_running_job, key_of
from tunesmith_cli.commands import serve
from tunesmith_cli.main import main
from tunesmith_engine.local.locks import lock_job


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that is done and one that failed; tests only read."""
    folder = tmp_path_factory.mktemp("home")
    a_finished_job(folder)
    a_failed_job(folder)
    return folder


@pytest.fixture
def own_home(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def test_status_lists_all_jobs(home: Path) -> None:
    """The whole command once, as a process."""
    ran = tunesmith("status", "--home", home)

    assert (ran.code, ran.stderr) == (0, "")
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["job", "helpdesk", "refused"]


def test_status_of_one_job_as_an_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "refused", "--home", str(home), "--output", "json"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert (printed["job"], printed["phase"], printed["running"]) == ("refused", "Failed", False)


def test_an_empty_home_has_no_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path / "none")]) == 0

    assert capsys.readouterr().out.startswith("no jobs in ")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["status", "logs", "report", "serve", "prune", "delete"])
def test_an_unknown_job_is_refused_with_a_near_name(
    command: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([command, "helpdsk", "--home", str(home)])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err == f"error: no job 'helpdsk' in {home}; did you mean 'helpdesk'?\n"


@pytest.mark.parametrize("command", ["status", "logs", "report", "serve"])
def test_a_job_whose_status_is_damaged_is_named_with_what_to_do(
    command: str, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_home / "jobs/refused/status.json").write_text("{")

    assert main([command, "refused", "--home", str(own_home)]) == 2

    said = capsys.readouterr().err
    assert "error: the status of job 'refused' in " in said
    assert "run the job again" in said
    assert "did you mean" not in said


def test_a_home_that_is_empty_is_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--home", ""])

    assert ended.value.code == 2
    assert "'' is no folder; leave --home out" in capsys.readouterr().err


def test_a_refusal_is_an_object_where_one_was_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "nobody", "--home", str(home), "--output", "json"]) == 2

    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "InvalidSpec"
    assert error["message"].startswith("no job 'nobody'")


def test_a_name_never_leads_out_of_the_home_folder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "../../etc", "--home", str(home)]) == 2

    assert capsys.readouterr().err.startswith("error: no job '../../etc'")


def test_logs_are_printed_in_the_order_of_stages_and_attempts(
    own_home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    attempts = own_home / "jobs/refused/stages/train" / key_of("train")[:16] / "attempts"
    for number in (2, 10):
        (attempts / str(number)).mkdir()
        (attempts / str(number) / "log.txt").write_bytes(b"step \xff\n")

    assert main(["logs", "refused", "--home", str(own_home)]) == 0

    printed = capfdbinary.readouterr().out
    heads = [line for line in printed.splitlines() if line.startswith(b"==>")]
    assert heads == [
        b"==> prepare, attempt 1 <==",
        b"==> train, attempt 1 <==",
        b"==> train, attempt 2 <==",
        b"==> train, attempt 10 <==",
        b"==> evaluate, attempt 1 <==",
    ]
    assert b"step \xff\n" in printed


def test_logs_through_a_pipe_have_no_colours_and_no_bars(
    own_home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (log,) = own_home.glob("jobs/helpdesk/stages/train/*/attempts/1/log.txt")
    log.write_bytes(b"\x1b[36m(Worker pid=7)\x1b[0m a step\n\rload: 0%\rload: 100%\nand a rest")

    assert main(["logs", "helpdesk", "train", "--home", str(own_home)]) == 0

    printed = capfdbinary.readouterr().out
    assert printed == (b"==> train, attempt 1 <==\n(Worker pid=7) a step\nload: 100%\nand a rest\n")


def test_logs_of_one_stage_and_attempt(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["logs", "helpdesk", "verify", "--attempt", "1", "--home", str(home)]

    assert main(command) == 0

    assert capfd.readouterr().out == ("==> verify, attempt 1 <==\nstarting verify\nverify ended\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "no stage 'trian'; did you mean 'train'?"),
        (["publish"], "no log of publish of job 'refused'; there are prepare 1, train 1"),
        (["train", "--attempt", "7"], "no log of train, attempt 7 of job 'refused'"),
    ],
)
def test_a_log_that_is_not_there_is_refused(
    arguments: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "refused", *arguments, "--home", str(home)]) == 2

    assert said in capsys.readouterr().err


def test_following_prints_what_is_added_until_the_run_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = a_running_job(tmp_path)
    log = job.folder / "stages/train" / key_of("train")[:16] / "attempts/1/log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("step 1\n")

    with lock_job(job.folder / "lock", job="running"):
        command = ["logs", "running", "train", "--follow", "--home", str(tmp_path)]
        follower = threading.Thread(target=main, args=(command,))
        follower.start()
        time.sleep(0.4)
        with log.open("a") as file:
            file.write("step 2\n")
        assert follower.is_alive()
    follower.join(timeout=10)

    assert not follower.is_alive()
    assert capfd.readouterr().out == "==> train, attempt 1 <==\nstep 1\nstep 2\n"


def test_report_prints_the_path_of_the_page(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "helpdesk", "--home", str(own_home)]) == 0

    path = Path(capsys.readouterr().out.strip())
    assert path == own_home / "jobs/helpdesk/report.html"
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_serve_becomes_the_server_of_the_published_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "server" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    monkeypatch.setenv("TUNESMITH_ENVIRONMENTS", str(tmp_path))
    executed: list[list[str]] = []
    quiet: list[str] = []
    watched: list[str] = []

    def execve(_: Path, command: list[str], environment: dict[str, str]) -> None:
        executed.append(command)
        quiet.append(environment["VLLM_LOGGING_LEVEL"])

    monkeypatch.setattr("os.execve", execve)
    monkeypatch.setattr(serve, "announce_when_ready", watched.append)

    main(["serve", "helpdesk", "--port", "8001", "--home", str(home)])
    main(["serve", "./somewhere", "--host", "0.0.0.0"])

    folder = next(home.glob("jobs/helpdesk/stages/publish/*/artifacts/helpdesk/*"))
    start = [str(python), "-m", "tunesmith_serving", "serve"]
    assert executed == [
        [*start, str(folder), "--host", "127.0.0.1", "--port", "8001"],
        [*start, "somewhere", "--host", "0.0.0.0", "--port", "8000"],
    ]
    assert quiet == ["ERROR", "ERROR"]
    assert watched == ["http://127.0.0.1:8001/v1", "http://127.0.0.1:8000/v1"]


def test_a_job_without_a_published_model_is_not_served(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "refused", "--home", str(home)]) == 2

    assert "job 'refused' has published no model (Failed)" in capsys.readouterr().err


def test_a_missing_environment_is_refused_with_the_way_to_get_it(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TUNESMITH_ENVIRONMENTS", str(tmp_path))

    assert main(["serve", "helpdesk", "--home", str(home)]) == 2

    assert "make setup" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_home_folder_of_somebody_else_is_an_error_without_a_traceback(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_home / "jobs/helpdesk").chmod(0)

    assert main(["report", "helpdesk", "--home", str(own_home)]) == 2

    assert capsys.readouterr().err.startswith("error: ")
