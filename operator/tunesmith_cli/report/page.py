"""From a job's folder to its page: `context.py` says what is on it, the template how it looks."""

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_cli.report.context import ReportContext
from tunesmith_cli.report.job_data import JobData, read_job_data
from tunesmith_cli.report.svg import escaped
from tunesmith_engine.stages.reporter import write_atomically


def write_report(folder: Path, status: FineTuneJobStatus) -> Path:
    """Write report.html into the folder of a job, HOME/jobs/NAME, and return its path."""
    path = folder / "report.html"
    # Atomically: a page that is open in a browser, or copied away, is never half of one.
    write_atomically(path, render(read_job_data(folder, status), now=datetime.now(UTC)))
    return path


def render(job: JobData, *, now: datetime) -> str:
    """The page; `now` is the end of whatever still runs."""
    template = page_templates().get_template("report.html.jinja")
    return template.render(report=ReportContext(job, now))


def page_templates() -> Environment:
    """The templates of self-contained pages, with everything escaped."""
    return Environment(
        loader=PackageLoader("tunesmith_cli.report"),
        # Both: Jinja escapes what reaches an expression, and `finalize` is asked first, so that
        # ours does it. It escapes `=` too, and whatever it missed would still be escaped.
        autoescape=True,
        finalize=_escape_text,
        # A misspelt field of the context is an error, not an empty place on the page. NB: so is an
        # AttributeError inside a property of the context, and Jinja words it in the same way.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _escape_text(value: object) -> object:
    # What has `__html__` is markup of ours or of the template's own macros.
    return value if hasattr(value, "__html__") else escaped(value)
