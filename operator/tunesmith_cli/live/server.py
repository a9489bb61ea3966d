"""What the page of `tunesmith deploy` is answered: its files and `/state.json`."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Final
from urllib.parse import SplitResult, parse_qs

from tunesmith_cli.errors import CommandError
from tunesmith_cli.live import PAGE_PORT
from tunesmith_cli.live.watcher import Watcher
from tunesmith_cli.loopback_server import (
    HTML,
    JSON,
    SCRIPT,
    STYLE,
    SVG,
    Answer,
    refusal,
    serve_on_loopback,
)

_MAX_DIGITS: Final = 19


@contextmanager
def serve_page(watcher: Watcher, *, port: int | None) -> Iterator[str]:
    """Serve within the block; the address of the page. Without a port, the usual or a free one.

    Raises:
        CommandError: the port that was asked for is taken.
    """
    respond = partial(_answer, watcher, _page_files())
    with ExitStack() as stack:
        try:
            url = stack.enter_context(serve_on_loopback(respond, port=port, usual=PAGE_PORT))
        except OSError as error:
            raise CommandError(
                f"port {port} is taken ({error.strerror}); give another --page-port, or leave it "
                "out"
            ) from error
        yield url


def _page_files() -> Mapping[str, Answer]:
    """What lies beside this module, and the style of the report, by the path in the address."""
    page = files("tunesmith_cli.live") / "page"
    base = files("tunesmith_cli.report") / "templates" / "base.css"
    return {
        "/": Answer(HTML, (page / "index.html").read_bytes()),
        "/base.css": Answer(STYLE, base.read_bytes()),
        "/page.css": Answer(STYLE, (page / "page.css").read_bytes()),
        "/page.js": Answer(SCRIPT, (page / "page.js").read_bytes()),
        "/charts.js": Answer(SCRIPT, (page / "charts.js").read_bytes()),
        "/icon.svg": Answer(SVG, (page / "icon.svg").read_bytes()),
    }


def _answer(watcher: Watcher, pages: Mapping[str, Answer], address: SplitResult) -> Answer:
    """One of the files, or the state."""
    if address.path == "/state.json":
        after = parse_qs(address.query).get("after", ["0"])[0]
        # NB: Python reads no number of thousands of digits.
        if after.isascii() and after.isdigit() and len(after) < _MAX_DIGITS:
            return Answer(JSON, watcher.state(after=int(after)))
        return refusal(HTTPStatus.BAD_REQUEST, "after is the number of a point: 0, 17")
    missing = refusal(HTTPStatus.NOT_FOUND, "there is the page at / and its /state.json")
    return pages.get(address.path, missing)
