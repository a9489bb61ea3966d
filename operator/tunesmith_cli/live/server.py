"""The page's own little HTTP server: four files and `/state.json`, for browsers on this machine.

Read-only and on the loopback interface. The name that a browser asks for is checked, since a site
elsewhere may have its name point to 127.0.0.1 and read what is there (DNS rebinding).
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tunesmith_cli.errors import CommandError
from tunesmith_cli.live import PAGE_PORT
from tunesmith_cli.live.watcher import Watcher

_HOST: Final = "127.0.0.1"
_NAMES: Final = (_HOST, "localhost", "[::1]")
_HTML: Final = "text/html; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"
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

Files = Mapping[str, tuple[str, bytes]]


@contextmanager
def serve_page(watcher: Watcher, *, port: int | None) -> Iterator[str]:
    """Serve within the block; the address of the page. Without a port, the usual or a free one.

    Raises:
        CommandError: the port that was asked for is taken.
    """
    server = _listening(watcher, port=port)
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


def _listening(watcher: Watcher, *, port: int | None) -> _Server:
    handler = partial(_Handler, watcher, _page_files())
    try:
        return _Server((_HOST, PAGE_PORT if port is None else port), handler)
    except OSError as error:
        if port is None:
            return _Server((_HOST, 0), handler)
        raise CommandError(
            f"port {port} is taken ({error.strerror}); give another --page-port, or leave it out"
        ) from error


def _page_files() -> Files:
    """What lies beside this module, and the style of the report, by the path in the address."""
    page = files("tunesmith_cli.live") / "page"
    base = files("tunesmith_cli.report") / "templates" / "base.css"
    return {
        "/": (_HTML, (page / "index.html").read_bytes()),
        "/base.css": (_STYLE, base.read_bytes()),
        "/page.css": (_STYLE, (page / "page.css").read_bytes()),
        "/page.js": (_SCRIPT, (page / "page.js").read_bytes()),
        "/charts.js": (_SCRIPT, (page / "charts.js").read_bytes()),
        "/icon.svg": ("image/svg+xml", (page / "icon.svg").read_bytes()),
    }


class _Handler(BaseHTTPRequestHandler):
    server_version = "tunesmith"
    sys_version = ""
    # Of a connection on which nobody asks anything. One that was answered is closed (HTTP/1.0), so
    # that no thread outlives the server.
    timeout = _IDLE_S
    server: _Server

    def __init__(self, watcher: Watcher, pages: Files, *request: Any) -> None:
        self._watcher = watcher
        self._pages = pages
        super().__init__(*request)

    def do_GET(self) -> None:
        """Answer with one of the files, or with the state."""
        address = urlsplit(self.path)
        if not self._is_for_this_machine():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"ask for http://{self._own_name()}/")
        elif address.path == "/state.json":
            after = parse_qs(address.query).get("after", ["0"])[0]
            if after.isascii() and after.isdigit():
                self._respond("application/json", self._watcher.state(after=int(after)))
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "after is the number of a point: 0, 17")
        elif address.path in self._pages:
            self._respond(*self._pages[address.path])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is the page at / and its /state.json")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - Python's own signature
        """Say nothing: a browser asks every few seconds."""

    def _own_name(self) -> str:
        return f"{_HOST}:{self.server.server_port}"

    def _is_for_this_machine(self) -> bool:
        name, _, port = self.headers.get("Host", "").rpartition(":")
        return name.lower() in _NAMES and port == str(self.server.server_port)

    def _refuse(self, status: HTTPStatus, said: str) -> None:
        self._respond("text/plain; charset=utf-8", f"{said}\n".encode(), status=status)

    def _respond(self, kind: str, body: bytes, *, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
