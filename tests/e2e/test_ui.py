"""The page of `tunesmith ui`, and the page of a comparison, read in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, chromium
from command import free_port
from compared_jobs import two_jobs
from job_folders import JobFolder, a_failed_job, a_running_job
from tunesmith_cli.main import main
from tunesmith_cli.ui.server import serve_ui
from tunesmith_engine.local.locks import lock_job

HOSTILE = '<img src=x onerror="window.hacked=1">&amp;'
ROWS = "document.querySelectorAll('#jobs tbody tr').length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def running(tmp_path: Path) -> Iterator[JobFolder]:
    """A job that runs, beside two that are done and one that failed."""
    two_jobs(tmp_path)
    a_failed_job(tmp_path)
    job = a_running_job(tmp_path)
    with lock_job(job.folder / "lock", job="running"):
        yield job


@pytest.fixture
def page(running: JobFolder, tmp_path: Path) -> Iterator[str]:
    # A port of its own: the browser keeps connections open, and would ask an earlier server by one.
    with serve_ui(tmp_path, port=free_port()) as url:
        yield url


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_jobs_are_seen_without_a_scroll_bar_or_an_error(
    browser: Browser, page: str, width: int, *, dark: bool
) -> None:
    browser.resize(width, dark=dark)
    browser.open(page)
    browser.wait_for(f"{ROWS} === 4")

    assert browser.ask("document.documentElement.scrollWidth") == width
    assert "running Training" in browser.text("#running h3")
    assert "31 % · training 12/30" in browser.text("#running p")
    assert "EvaluationGateFailed" in browser.text("#jobs")
    assert "helpdesk" in browser.text("#models")
    assert browser.problems == []


def test_progress_is_seen_live(browser: Browser, page: str, running: JobFolder) -> None:
    browser.resize(1280)
    browser.open(page)
    browser.wait_for("document.querySelector('progress')?.value === 31")

    progress = running.status.progress
    assert progress is not None
    told = progress.model_copy(update={"percent": 64.0, "step": 25})
    running.status = running.status.model_copy(update={"progress": told})
    running.write()

    browser.wait_for("document.querySelector('progress').value === 64")
    assert "training 25/30" in browser.text("#running p")


def test_a_reader_goes_to_a_report_a_log_and_a_comparison(browser: Browser, page: str) -> None:
    browser.resize(1280)
    browser.open(page)
    browser.wait_for(f"{ROWS} === 4")
    links = browser.ask("[...document.querySelectorAll('#jobs tbody a')].map((a) => a.href)")
    for name in ("first", "second"):
        browser.ask(f"document.querySelector('[data-key=\"pick {name}\"]').click()")
    comparison = browser.ask("document.querySelector('#compare a').href")

    browser.open(next(link for link in links if link.endswith("jobs/first/report")))
    assert browser.text("h1") == "first Succeeded"
    assert browser.ask("document.querySelectorAll('svg.chart').length") > 3

    browser.open(next(link for link in links if "/log/evaluate" in link))
    assert "evaluate ended" in browser.text("body")

    browser.open(comparison)
    assert "second is worse in Held-out rows: loss" in browser.text("#verdicts + ul")
    # Styles stand in the page; without them nothing would be coloured.
    line = "getComputedStyle(document.querySelector('.line.compressed')).stroke"
    assert browser.ask(line) == "rgb(163, 74, 6)"
    assert browser.problems == []


def test_a_third_choice_lets_the_first_go_and_find_narrows_the_list(
    browser: Browser, page: str
) -> None:
    browser.open(page)
    browser.wait_for(f"{ROWS} === 4")
    for name in ("first", "second", "refused"):
        browser.ask(f"document.querySelector('[data-key=\"pick {name}\"]').click()")
    assert browser.text("#compare") == "Compare second with refused"

    browser.ask(
        "(() => { const box = document.getElementById('find'); box.value = 'REF'; "
        "box.dispatchEvent(new Event('input')); })()"
    )
    assert browser.ask(ROWS) == 1


def test_what_a_job_says_becomes_text_and_nothing_else(
    browser: Browser, page: str, running: JobFolder
) -> None:
    progress = running.status.progress
    assert progress is not None
    told = progress.model_copy(update={"message": HOSTILE})
    running.status = running.status.model_copy(update={"progress": told})
    running.write()

    browser.open(page)
    browser.wait_for(f"{ROWS} === 4")

    assert HOSTILE in browser.text("#running p")
    assert browser.ask("document.images.length") == 0
    assert browser.ask("window.hacked ?? null") is None


def test_an_empty_home_says_how_to_begin(browser: Browser, tmp_path: Path) -> None:
    with serve_ui(tmp_path / "none", port=free_port()) as url:
        browser.open(url)
        browser.wait_for("document.querySelector('#jobs .empty') !== null")

        assert "tunesmith init" in browser.text("#jobs")


def test_a_server_that_has_ended_is_said_to_have(browser: Browser, tmp_path: Path) -> None:
    with serve_ui(tmp_path, port=free_port()) as url:
        browser.open(url)
        browser.wait_for("document.querySelector('.live.on') !== null")
    browser.wait_for("document.getElementById('told').textContent.startsWith('no answer')")
    # The browser calls each request that is refused an error; that is what was to be seen.
    browser.open("about:blank")
    browser.problems.clear()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_of_a_comparison_is_read_from_a_file(
    browser: Browser, tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names = two_jobs(tmp_path / "home")
    path = tmp_path / "comparison.html"
    given = ["--home", str(tmp_path / "home"), "--html", str(path), "--output", "json"]
    assert main(["compare", *names, *given]) == 0
    told = json.loads(capsys.readouterr().out)

    browser.resize(width, 2400)
    browser.open(path.as_uri())

    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("document.querySelectorAll('#settings ~ .scroll tbody tr').length") == len(
        told["settings"]
    )
    assert browser.problems == []
