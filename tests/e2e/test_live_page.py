"""The page of `tunesmith deploy`, read in a real browser, over real Envoy and stand-in engines."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from browser import Browser, chromium
from command import wait_until
from laptop import NAME, Laptop
from open_loop import traffic
from tunesmith_cli.live.server import serve_page
from tunesmith_cli.live.watcher import Watcher
from tunesmith_engine.monitoring.sighting import Sighting
from watched import rollout, sighting

RATE = 20.0
HOSTILE = '<img src=x onerror="window.hacked=1">&amp;'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@contextmanager
def page_of(*seen: Sighting) -> Iterator[str]:
    """The page after these looks; the last one is what there is to see from then on."""
    watcher = Watcher(lambda: seen[-1])
    for earlier in seen:
        watcher._history = watcher._history.after(earlier)
    with serve_page(watcher, port=None) as url:
        yield url


@pytest.fixture(scope="module")
def canary() -> Iterator[str]:
    with page_of(*rollout(120, end=datetime.now(UTC))) as url:
        yield url


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_canary_is_drawn_without_a_scroll_bar_or_an_error(
    browser: Browser, canary: str, width: int, *, dark: bool
) -> None:
    browser.resize(width, dark=dark)
    browser.open(canary)
    browser.wait_for("document.querySelectorAll('#ttft .path').length === 4")

    assert browser.text("h1") == "helpdesk Progressing"
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.problems == []
    paper = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(19, 21, 25)" if dark else "rgb(250, 249, 247)")


def test_every_figure_says_in_words_what_it_draws(browser: Browser, canary: str) -> None:
    browser.open(canary)
    browser.wait_for("document.querySelectorAll('svg.chart').length === 8")

    labels = browser.ask("[...document.querySelectorAll('svg.chart')].map((s) => s.ariaLabel)")
    assert re.fullmatch(
        r"Time to first token, newest: 3f2a9c p50 [\d.]+ ms; 3f2a9c p95 [\d.]+ ms; "
        r"81d07e p50 [\d.]+ ms; 81d07e p95 [\d.]+ ms",
        labels[0],
    )
    assert browser.ask("document.querySelectorAll('.track')[1].ariaLabel") == (
        "achieved: 3f2a9c 50 %, 81d07e 50 %"
    )
    assert browser.text("#promises tbody tr:nth-child(2) .badge") == "burning"
    assert browser.text("#signals .badge") == "drifted"


def test_arrow_keys_read_the_values_of_a_chart(browser: Browser, canary: str) -> None:
    browser.resize(1280)
    browser.open(canary)
    browser.wait_for("document.querySelectorAll('svg.chart').length === 8")
    browser.ask("document.querySelector('#requests svg').focus()")
    for _ in range(2):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")

    browser.wait_for("!document.querySelector('#requests .tip').hidden")
    assert "81d07e" in browser.text("#requests .tip")


def test_what_is_missing_is_said(browser: Browser) -> None:
    with page_of(sighting(0)) as url:
        browser.open(url)
        browser.wait_for("document.getElementById('name').textContent === 'helpdesk'")

        assert browser.text("#ttft .empty") == "no replica answers yet"
        assert "no rollout was judged yet" in browser.text("#judge")
        assert browser.text("#replicas") == "no replica was started yet"


def test_names_become_text_and_nothing_else(browser: Browser) -> None:
    hostile = sighting(0, name=HOSTILE, unread=HOSTILE)
    with page_of(hostile) as url:
        browser.open(url)
        browser.wait_for("document.getElementById('name').textContent !== '…'")

        assert browser.text("#name") == HOSTILE
        assert browser.text("#ttft .empty") == HOSTILE
        assert browser.ask("document.images.length") == 0
        assert browser.ask("window.hacked ?? null") is None


def test_a_server_that_is_gone_is_said_to_be_gone(browser: Browser) -> None:
    with page_of(sighting(0)) as url:
        browser.open(url)
        browser.wait_for("document.querySelector('.live.on, .live.off') !== null")
    browser.wait_for("document.getElementById('age').textContent.startsWith('no answer')")
    # The browser calls each request that is refused an error; that is what was to be seen.
    browser.open("about:blank")
    browser.problems.clear()


def test_a_rollout_and_a_killed_replica_are_seen_live(browser: Browser, tmp_path: Path) -> None:
    laptop = Laptop.of(tmp_path)
    laptop.write_manifest(rollout={"steps": [{"weight": 50, "seconds": 6}]})
    laptop.publish("v1", ttft=0.03, itl=0.004)
    with laptop.deployed():
        wait_until(lambda: laptop.condition("Ready"), what="the first version")
        with traffic(laptop.endpoint, rate=RATE, timeout_s=5.0):
            browser.resize(1280)
            browser.open(_page(laptop))
            # Latency by version, as the replica has counted it: a half of the requests are streams.
            browser.wait_for(_has("#revisions", "v1"))
            browser.wait_for("document.querySelectorAll('#ttft .path').length === 2")
            assert 20 < _milliseconds(browser.text("#figures > div:nth-child(3) dd")) < 400

            laptop.publish("v2", ttft=0.03, itl=0.004)
            browser.wait_for(_has("#revisions", "v2"))
            browser.wait_for("document.querySelectorAll('.track')[1].ariaLabel.includes('v2')")
            browser.wait_for(_has("#legend", "v2 (stable)"), timeout_s=90)
            browser.wait_for(_has("#judge", "v2: promote"))

            revision = laptop.status()["stable"]["revision"]
            os.kill(laptop.engines()[f"{revision}-0"], signal.SIGKILL)
            browser.wait_for(_has("#replicas", "1 ×"))
            browser.wait_for(_has("#replicas", "Ready"))
        assert browser.problems == []
        once = laptop.run("watch", NAME, "--once")
    assert once.returncode == 0
    assert "v2" in once.stdout


def _page(laptop: Laptop) -> str:
    said = re.search(
        r"page (http://127\.0\.0\.1:\d+/)", (laptop.home.parent / "deploy.log").read_text()
    )
    assert said is not None
    return said[1]


def _has(selector: str, text: str) -> str:
    """An expression: whether it is to be read there."""
    return (
        f"document.querySelector({json.dumps(selector)}).textContent.includes({json.dumps(text)})"
    )


def _milliseconds(text: str) -> float:
    value, unit = text.split()
    return float(value) * {"ms": 1, "s": 1000}[unit]
