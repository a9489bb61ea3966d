"""The page's server: for browsers on this machine alone, read-only, and never in the way."""

import http.client
import json
import threading
from collections.abc import Iterator

import pytest

from tunesmith_cli.errors import CommandError
from tunesmith_cli.live.server import serve_page
from tunesmith_cli.live.watcher import Watcher
from tunesmith_engine.monitoring.sighting import Sighting
from watched import sighting


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    watcher = Watcher(lambda: sighting(0))
    watcher._history = watcher._history.after(sighting(0)).after(sighting(1))
    with serve_page(watcher, port=None) as url:
        yield int(url.rstrip("/").rpartition(":")[2])


def ask(
    port: int, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{port}" if host is None else host)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/charts.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/base.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
        ("/state.json", "application/json"),
    ],
)
def test_everything_that_the_page_needs_is_there_and_nothing_else_may_be_had(
    port: int, path: str, kind: str
) -> None:
    response, body = ask(port, path)

    assert response.status == 200
    assert body
    assert response.headers["Content-Type"].startswith(kind)
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "", "127.0.0.1:1"]
)
def test_another_name_is_refused(port: int, host: str) -> None:
    response, body = ask(port, "/state.json", host=host)

    assert response.status == 421
    assert b"helpdesk" not in body


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "[::1]"])
def test_the_names_of_this_machine_are_its_own(port: int, name: str) -> None:
    assert ask(port, "/", host=f"{name}:{port}")[0].status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/page/index.html", 404),
        ("GET", "/state.json?after=-1", 400),
        ("GET", "/state.json?after=x", 400),
        ("HEAD", "/", 200),
        ("POST", "/", 501),
        ("DELETE", "/state.json", 501),
    ],
)
def test_what_is_not_there_is_said(port: int, method: str, path: str, status: int) -> None:
    response, body = ask(port, path, method=method)

    assert response.status == status
    if method == "HEAD":
        assert body == b""


def test_only_points_that_are_new_are_sent(port: int) -> None:
    whole = json.loads(ask(port, "/state.json")[1])
    rest = json.loads(ask(port, "/state.json?after=1")[1])

    assert [point["seq"] for point in whole["points"]] == [1, 2]
    assert [point["seq"] for point in rest["points"]] == [2]
    assert rest["instance"] == whole["instance"]


def test_nobody_elsewhere_is_listened_to(port: int) -> None:
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("127.0.0.2", port, timeout=5).connect()


def test_a_port_that_was_asked_for_and_is_taken_is_bad_input(port: int) -> None:
    with (
        pytest.raises(CommandError, match="another --page-port"),
        serve_page(Watcher(lambda: sighting(0)), port=port),
    ):
        pass


def test_a_look_that_fails_ends_nothing() -> None:
    looked, seen_twice = [0], threading.Event()

    def look() -> Sighting:
        looked[0] += 1
        if looked[0] == 1:
            raise OSError("disk full")
        seen_twice.set()
        return sighting(0)

    with Watcher(look, look_s=0.01) as watcher:
        assert json.loads(watcher.state(after=0))["view"] is None
        assert seen_twice.wait(5)
