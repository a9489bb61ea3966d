"""What the page of `tunesmith ui` is answered: its files, the overview, reports, logs, comparisons.

Everything lies below a key that only the terminal shows: reports hold rows and answers, and other
users of the machine can reach its loopback interface, too.
"""

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote

from tunesmith_cli.errors import CommandError
from tunesmith_cli.inputs import StoredJob, find_job
from tunesmith_cli.job_list import stored_jobs
from tunesmith_cli.loopback_server import (
    HTML,
    JSON,
    SCRIPT,
    STYLE,
    SVG,
    TEXT,
    Answer,
    refusal,
    serve_on_loopback,
)
from tunesmith_cli.model_list import published_versions
from tunesmith_cli.report.comparison import Comparison
from tunesmith_cli.report.comparison_page import render_comparison
from tunesmith_cli.report.job_data import JobData, read_job_data
from tunesmith_cli.report.page import render
from tunesmith_cli.ui import UI_PORT
from tunesmith_cli.ui.overview import overview
from tunesmith_engine.local.home_folder import HomeFolder

# Reports bring their styles with them, and no script.
_SELF_CONTAINED: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
# How often the report of a job that runs is asked for again.
_REFRESH_S: Final = 10
_LOG_TAIL: Final = 256 << 10


@contextmanager
def serve_ui(root: Path, *, port: int | None) -> Iterator[str]:
    """Serve the home folder `root` within the block; the address, with its key.

    Raises:
        CommandError: the port that was asked for is taken.
    """
    key = secrets.token_urlsafe(12)
    site = Site(root=root, key=key, files=_page_files())
    with ExitStack() as stack:
        try:
            url = stack.enter_context(serve_on_loopback(site.answer, port=port, usual=UI_PORT))
        except OSError as error:
            raise CommandError(
                f"port {port} is taken ({error.strerror}); give another --port, or leave it out"
            ) from error
        yield f"{url}{key}/"


@dataclass(frozen=True, slots=True)
class Site:
    """The home folder as pages, below `/KEY/`."""

    root: Path
    key: str
    files: Mapping[str, Answer]

    def answer(self, address: SplitResult) -> Answer:
        """Whatever is asked for, or a refusal."""
        if address.path == "/favicon.ico":
            # What browsers ask for by themselves where a page names no icon, as a report does not.
            return self.files["icon.svg"]
        key, _, path = address.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            return refusal(HTTPStatus.NOT_FOUND, "take the address that `tunesmith ui` has printed")
        if path in self.files:
            return self.files[path]
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        try:
            return self._made(unquote(path), asked)
        except CommandError as error:
            return refusal(HTTPStatus.NOT_FOUND, error.message)

    def _made(self, path: str, asked: Mapping[str, str]) -> Answer:
        """What is made anew for each that asks.

        Raises:
            CommandError: there is no such page or job.
        """
        match path.split("/"):
            case ["state.json"]:
                return Answer(JSON, json.dumps(self._state(), separators=(",", ":")).encode())
            case ["compare"]:
                first, second = (self._data(asked.get(name, "")) for name in ("first", "second"))
                page = render_comparison(Comparison(first, second), now=datetime.now(UTC))
                return Answer(HTML, page.encode(), headers=_SELF_CONTAINED)
            case ["jobs", name, "report"]:
                return self._report(find_job(name, root=self.root))
            case ["jobs", name, "log", stage]:
                return Answer(TEXT, _log_tail(find_job(name, root=self.root), stage))
        raise CommandError("no such page")

    def _state(self) -> Mapping[str, object]:
        home, now = HomeFolder(self.root), datetime.now(UTC)
        return overview(stored_jobs(home), published_versions(home), home=str(self.root), now=now)

    def _report(self, job: StoredJob) -> Answer:
        page = render(read_job_data(job.folder, job.status), now=datetime.now(UTC))
        is_live = job.home.is_running(job.name) and not job.status.is_finished
        again = {"Refresh": str(_REFRESH_S)} if is_live else {}
        return Answer(HTML, page.encode(), headers={**_SELF_CONTAINED, **again})

    def _data(self, name: str) -> JobData:
        job = find_job(name, root=self.root)
        return read_job_data(job.folder, job.status)


def _log_tail(job: StoredJob, stage: str) -> bytes:
    """The end of the log of the stage's latest attempt.

    Raises:
        CommandError: the job has no such stage, or it has written nothing.
    """
    known = next((one for one in job.status.stages if one.name == stage), None)
    # NB: a stage of the status, and so no path that leads elsewhere.
    attempts = (
        job.home.stage(job.name, stage=stage, key=known.key).attempts() if known is not None else []
    )
    logs = [attempt.log for attempt in attempts if attempt.log.is_file()]
    if not logs:
        raise CommandError(f"no log of {stage} of job '{job.name}'")
    with logs[-1].open("rb") as file:
        file.seek(max(0, logs[-1].stat().st_size - _LOG_TAIL))
        return file.read()


def _page_files() -> Mapping[str, Answer]:
    """What lies beside this module, and what is shared with other pages."""
    page, live = files("tunesmith_cli.ui") / "page", files("tunesmith_cli.live") / "page"
    base = files("tunesmith_cli.report") / "templates" / "base.css"
    return {
        "": Answer(HTML, (page / "index.html").read_bytes()),
        "ui.css": Answer(STYLE, (page / "ui.css").read_bytes()),
        "ui.js": Answer(SCRIPT, (page / "ui.js").read_bytes()),
        "charts.js": Answer(SCRIPT, (live / "charts.js").read_bytes()),
        "base.css": Answer(STYLE, base.read_bytes()),
        "icon.svg": Answer(SVG, (live / "icon.svg").read_bytes()),
    }
