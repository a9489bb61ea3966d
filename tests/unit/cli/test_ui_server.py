"""The server of `tunesmith ui`: below its key all of the home folder, and nothing elsewhere."""

import http.client
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import TUNESMITH
from compared_jobs import two_jobs
from job_folders import a_failed_job, a_running_job
from tunesmith_cli.errors import CommandError
from tunesmith_cli.ui.server import serve_ui
from tunesmith_engine.local.locks import lock_job


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    two_jobs(folder)
    a_failed_job(folder)
    a_running_job(folder)
    (folder / "secrets").mkdir()
    (folder / "secrets/key").write_text("hidden")
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[tuple[int, str]]:
    """Port and `/KEY/`."""
    with serve_ui(home, port=None) as url:
        port, _, key = url.removeprefix("http://127.0.0.1:").partition("/")
        yield int(port), f"/{key}"


def ask(
    address: tuple[int, str], path: str, *, method: str = "GET"
) -> tuple[http.client.HTTPResponse, str]:
    port, base = address
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path if path.startswith("/") else base + path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "text/html"),
        ("ui.js", "text/javascript"),
        ("charts.js", "text/javascript"),
        ("ui.css", "text/css"),
        ("base.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("state.json", "application/json"),
        ("jobs/first/report", "text/html"),
        ("jobs/refused/report", "text/html"),
        ("jobs/first/log/train", "text/plain"),
        ("compare?first=first&second=second", "text/html"),
    ],
)
def test_all_pages_are_below_the_key(address: tuple[int, str], path: str, kind: str) -> None:
    response, body = ask(address, path)

    assert (response.status, bool(body)) == (200, True)
    assert response.headers["Content-Type"].startswith(kind)
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/state.json", "/wrong/state.json", "/jobs/first/report"])
def test_without_the_key_nothing_is_seen(address: tuple[int, str], path: str) -> None:
    response, body = ask(address, path)

    assert response.status == 404
    assert "first" not in body


@pytest.mark.parametrize(
    "path",
    [
        "secrets/key",
        "jobs/..%2F..%2Fsecrets/report",
        "jobs/first/log/..%2F..",
        "jobs/first/log/search",
        "jobs/nobody/report",
        "compare?first=first",
        "jobs/first/status.json",
    ],
)
def test_what_is_no_page_is_refused(address: tuple[int, str], path: str) -> None:
    response, body = ask(address, path)

    assert response.status == 404
    assert "hidden" not in body


def test_nothing_can_be_changed(address: tuple[int, str]) -> None:
    assert ask(address, "jobs/first/report", method="POST")[0].status == 501
    assert ask(address, "jobs/first/report", method="DELETE")[0].status == 501


def test_the_state_has_every_job_and_version(address: tuple[int, str]) -> None:
    state = json.loads(ask(address, "state.json")[1])

    jobs = {job["name"]: job for job in state["jobs"]}
    assert set(jobs) == {"first", "second", "refused", "running"}
    assert (jobs["first"]["role"], jobs["first"]["loss"], jobs["first"]["base"]) == (
        "good", "2.41", "3.8",
    )  # fmt: skip
    assert jobs["refused"]["why"].startswith("EvaluationGateFailed: ")
    assert jobs["refused"]["hint"]
    assert (jobs["running"]["role"], jobs["running"]["note"]) == ("waiting", "no run is going on")
    assert {one["job"] for one in state["versions"]} == {"first", "second"}


def test_a_report_of_a_job_that_runs_is_asked_for_again(
    address: tuple[int, str], home: Path
) -> None:
    assert ask(address, "jobs/running/report")[0].headers["Refresh"] is None

    with lock_job(home / "jobs/running/lock", job="running"):
        state = json.loads(ask(address, "state.json")[1])
        live = {job["name"]: job for job in state["jobs"]}["running"]
        assert (live["live"], live["percent"], live["role"]) == (True, 31.0, "running")
        assert live["doing"].startswith("training 12/30")
        assert ask(address, "jobs/running/report")[0].headers["Refresh"] == "10"


def test_a_port_that_is_taken_is_bad_input(address: tuple[int, str], home: Path) -> None:
    with pytest.raises(CommandError, match="another --port"), serve_ui(home, port=address[0]):
        pass


def test_the_command_says_where_the_page_is_and_ends_with_ctrl_c(home: Path) -> None:
    process = subprocess.Popen(
        [TUNESMITH, "ui", "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process:
        url = process.stdout.readline().removeprefix("page ").strip()
        port, _, key = url.removeprefix("http://127.0.0.1:").partition("/")
        seen = ask((int(port), f"/{key}"), "state.json")[0].status
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=20)

    assert (seen, code) == (200, 0)
