"""When `serve` says that the server is ready."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from command import free_port
from tunesmith_cli.terminal.server_readiness import how_to_ask, served_model, url_of

WATCH = """
import sys
from tunesmith_cli.terminal.server_readiness import announce_when_ready
announce_when_ready(sys.argv[1])
sys.stdin.read()
"""


class Models(BaseHTTPRequestHandler):
    """What vLLM answers once the model is loaded."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "helpdesk"}]}).encode())

    def log_message(self, *_: object) -> None:
        """Nothing of it."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    listening = HTTPServer(("127.0.0.1", 0), Models)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()
    listening.server_close()


def watching(url: str) -> subprocess.Popen[str]:
    """A process that is taken for the server, and lives until its stdin ends."""
    return subprocess.Popen(
        [sys.executable, "-c", WATCH, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_is_said_once_the_server_answers_with_a_command_to_ask_it(server: HTTPServer) -> None:
    url = url_of("0.0.0.0", server.server_port)

    with watching(url) as process:
        assert process.stderr is not None
        ready, command = process.stderr.readline(), process.stderr.readline()
        process.communicate("")

    assert ready.startswith("ready after ")
    assert f"helpdesk answers at {url}; Ctrl-C ends it" in ready
    assert command.strip().startswith(f"curl {url}/chat/completions -H")


def test_nothing_is_said_of_a_server_that_ends_before_it_answers() -> None:
    url = url_of("127.0.0.1", free_port())

    with watching(url) as process:
        _, said = process.communicate("", timeout=60)

    assert said == ""
    assert served_model(url) is None


def test_the_command_holds_the_request_as_json() -> None:
    said = how_to_ask("http://127.0.0.1:8000/v1", model="desk", seconds=61)

    assert said.startswith("ready after 1 min 01 s: desk answers at")
    assert json.loads(said.split("-d '")[1].removesuffix("'"))["model"] == "desk"
