"""A job's stages and progress as lines of text; for the display of a run and for `status`.

Whatever stages a job has: they are read from its status, never from a list.
"""

from typing import Final, NamedTuple

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase, Progress, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_cli.formats import duration, number
from tunesmith_cli.hints import diagnose
from tunesmith_cli.terminal.style import Style, plain

# Of the metrics that a stage reports on its way, those that fit into a line, in this order.
_METRICS: Final = {
    "loss": "loss {}",
    "heldOutLoss": "held-out {}",
    "gap": "gap {}",
    "generalLoss": "general {}",
    "kl": "KL {}",
    "attackedLoss": "attacked {}",
    "pairedGap": "paired gap {}",
    "rationaleLoss": "rationales {}",
    "offHighlights": "off highlights {}",
    "tokensPerSecond": "{} tokens/s",
    "mfu": "MFU {}",
    "gradNorm": "gradient norm {}",
}
# The longest name of a stage that every job has, so that a job cut short by --until looks the same.
_NAME_WIDTH: Final = 8


class _StateForm(NamedTuple):
    """How a state is shown: a sign, its colour, a word."""

    sign: str
    colour: str
    word: str


# The sign differs by shape as well, for those who see no colours.
_STATES: Final = {
    "Pending": _StateForm("·", "dim", "to do"),
    "Waiting": _StateForm("○", "yellow", "waiting"),
    "Running": _StateForm("●", "cyan", "running"),
    "Succeeded": _StateForm("✓", "green", "done"),
    "Failed": _StateForm("✗", "red", "failed"),
}


def phase_of(status: FineTuneJobStatus) -> str:
    """The phase in a word for people: only who set `suspend` knows what Suspended means."""
    was_stopped = diagnose(status).reason in {Reason.STOPPED_AS_ASKED, Reason.INTERRUPTED}
    return "Stopped" if status.phase == Phase.SUSPENDED and was_stopped else status.phase


def state_of(stage: StageStatus) -> str:
    """`done`, `done before`, `running`, `waiting`, `failed` or `to do`."""
    return "done before" if stage.cached else _STATES[stage.state].word


def name_width(status: FineTuneJobStatus) -> int:
    """How wide the column is that holds the names of the job's stages."""
    return max([_NAME_WIDTH, *(len(stage.name) for stage in status.stages)])


def stage_line(stage: StageStatus, *, progress: Progress | None, style: Style, width: int) -> str:
    """One stage: its sign, its name in `width` columns, and how far it is or how it ended."""
    form, name = _STATES[stage.state], stage.name.ljust(width)
    sign = style.paint(form.sign, form.colour)
    if stage.is_under_way:
        return f"{sign} {style.paint(name, 'bold')}  {progress_text(progress)}".rstrip()
    if stage.state == "Pending":
        return style.paint(f"{form.sign} {name}", form.colour).rstrip()
    if stage.cached:
        # Its seconds are those of an earlier run; nobody waited for them now.
        parts = ["done before", plain(stage.message)]
    else:
        parts = [duration(stage.seconds), plain(stage.message) or stage.reason]
    return f"{sign} {name}  {', '.join(filter(None, parts))}".rstrip()


def progress_of(status: FineTuneJobStatus, stage: StageStatus) -> Progress | None:
    """The progress of that stage, if it is the one that runs."""
    progress = status.progress
    return progress if progress is not None and progress.stage == stage.name else None


def progress_text(progress: Progress | None) -> str:
    """`training 12/30 · 1 min 05 s left · loss 2.31 · held-out 2.4 · 310.2 tokens/s`."""
    if progress is None:
        # Importing torch and reading a model takes a while before a stage says its first word.
        return "starting"
    said = plain(progress.message)
    if progress.step is not None:
        of_all = f"/{progress.total_steps:,}" if progress.total_steps else ""
        said = f"{said} {progress.step:,}{of_all}".strip()
    # The time left comes before the metrics: a narrow terminal cuts the end of the line.
    left = "" if progress.eta_seconds is None else f"{duration(progress.eta_seconds)} left"
    values = {metric.name: metric.value for metric in progress.metrics}
    metrics = (
        text.format(_rounded(values[name])) for name, text in _METRICS.items() if name in values
    )
    return " · ".join(filter(None, (said, left, *metrics)))


def _rounded(value: str) -> str:
    # The API keeps metrics as text, and a stage may report a word.
    try:
        return number(float(value))
    except ValueError:
        return plain(value)
