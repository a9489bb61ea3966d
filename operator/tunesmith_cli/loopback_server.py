"""A little HTTP server for browsers on this machine: what the pages of `deploy` and `ui` stand on.

Read-only and on the loopback interface. The name that a browser asks for is checked, since a site
elsewhere may have its name point to 127.0.0.1 and read what is there (DNS rebinding).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

HTML: Final = "text/html; charset=utf-8"
SCRIPT: Final = "text/javascript; charset=utf-8"
STYLE: Final = "text/css; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
SVG: Final = "image/svg+xml"
JSON: Final = "application/json"

_HOST: Final = "127.0.0.1"
_NAMES: Final = (_HOST, "localhost", "[::1]")
_IDLE_S: Final = 30.0
_HEADERS: Final[Mapping[str, str]] = {
    # Only what this server sends, and no code in the page itself: a name that got past the escaping
    # could not run.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser gets; `headers` are added to, or stand instead of, those of every answer."""

    kind: str
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: HTTPStatus, said: str) -> Answer:
    """A line of text with that status."""
    return Answer(TEXT, f"{said}\n".encode(), status)


Respond = Callable[[SplitResult], Answer]


@contextmanager
def serve_on_loopback(respond: Respond, *, port: int | None, usual: int) -> Iterator[str]:
    """Serve within the block; the address. Without a port, the usual one or a free one.

    Raises:
        OSError: the port that was asked for is taken.
    """
    server = _listening(respond, port=port, usual=usual)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A port that another program listens on must be refused, not shared.
    allow_reuse_port = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that hangs up is no error, and the terminal shows something."""


def _listening(respond: Respond, *, port: int | None, usual: int) -> _Server:
    handler = partial(_Handler, respond)
    if port is not None:
        return _Server((_HOST, port), handler)
    try:
        return _Server((_HOST, usual), handler)
    except OSError:
        return _Server((_HOST, 0), handler)


class _Handler(BaseHTTPRequestHandler):
    server_version = "tunesmith"
    sys_version = ""
    # Of a connection on which nobody asks anything. One that was answered is closed (HTTP/1.0), so
    # that no thread outlives the server.
    timeout = _IDLE_S
    server: _Server

    def __init__(self, respond: Respond, *request: Any) -> None:
        self._respond = respond
        super().__init__(*request)

    def do_GET(self) -> None:
        """Ask for the answer, and send it."""
        self._send(self._answer())

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _answer(self) -> Answer:
        if not self._is_for_this_machine():
            own = f"http://{_HOST}:{self.server.server_port}/"
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, f"ask for {own}")
        try:
            address = urlsplit(self.path)
        except ValueError as error:
            return refusal(HTTPStatus.BAD_REQUEST, f"that is no address: {error}")
        return self._respond(address)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - Python's own signature
        """Say nothing: a browser asks every few seconds."""

    def _is_for_this_machine(self) -> bool:
        name, _, port = self.headers.get("Host", "").rpartition(":")
        return name.lower() in _NAMES and port == str(self.server.server_port)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**_HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
