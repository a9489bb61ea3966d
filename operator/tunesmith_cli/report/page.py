"""From a job's evidence to the text of its page."""

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_cli.report.context import tell
from tunesmith_cli.report.job_data import Evidence, gather
from tunesmith_cli.report.svg import escaped
from tunesmith_engine.stages.reporter import write_atomically


def write_report(folder: Path, status: FineTuneJobStatus) -> Path:
    """Write report.html into the folder of a job, HOME/jobs/NAME, and return its path."""
    path = folder / "report.html"
    write_atomically(path, render(gather(folder, status), now=datetime.now(UTC)))
    return path


def render(evidence: Evidence, *, now: datetime) -> str:
    """The page; `now` is the end of whatever still runs."""
    environment = Environment(
        loader=PackageLoader("tunesmith_cli.report"),
        autoescape=True,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(story=tell(evidence, now=now))


def _finalized(value: object) -> object:
    """Text is escaped our way; markup of ours and of the template's macros passes."""
    return value if hasattr(value, "__html__") else escaped(value)
