"""A job's stages and progress as lines of text; for the live display and for `status`."""

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Progress, StageStatus
from tunesmith_cli.formats import duration, number
from tunesmith_cli.terminal.style import Style, plain

_METRICS = {
    "loss": "loss {}",
    "heldOutLoss": "held-out {}",
    "tokensPerSecond": "{} tokens/s",
}
_SIGNS = {"Pending": "·", "Waiting": "○", "Running": "●", "Succeeded": "✓", "Failed": "✗"}
_COLOURS = {
    "Pending": "dim",
    "Waiting": "yellow",
    "Running": "cyan",
    "Succeeded": "green",
    "Failed": "red",
}
_STATES = {
    "Pending": "to do",
    "Waiting": "waiting",
    "Running": "running",
    "Succeeded": "done",
    "Failed": "failed",
}


def state_of(stage: StageStatus) -> str:
    """`done`, `done before`, `running`, `waiting`, `failed` or `to do`."""
    return "done before" if stage.cached else _STATES[stage.state]


def stage_line(stage: StageStatus, *, progress: Progress | None, style: Style) -> str:
    """One stage: its sign, its name, and how far it is or how it ended."""
    sign = style.paint(_SIGNS[stage.state], _COLOURS[stage.state])
    name = stage.name.ljust(8)
    if stage.is_under_way:
        return f"{sign} {style.paint(name, 'bold')}  {progress_text(progress)}".rstrip()
    if stage.state == "Pending":
        return style.paint(f"{_SIGNS['Pending']} {name}", "dim").rstrip()
    took = "" if stage.cached else duration(stage.seconds)
    said = plain(stage.message) or ("" if stage.cached else stage.reason)
    parts = [each for each in ("done before" if stage.cached else took, said) if each]
    return f"{sign} {name}  {', '.join(parts)}".rstrip()


def progress_of(status: FineTuneJobStatus, stage: StageStatus) -> Progress | None:
    """The progress of that stage, if it is the one that runs."""
    found = status.progress
    return found if found is not None and found.stage == stage.name else None


def progress_text(progress: Progress | None) -> str:
    """`training 12/30 · 1 min 05 s left · loss 2.31 · held-out 2.4 · 310.2 tokens/s`."""
    if progress is None:
        return "starting"
    eta = progress.eta_seconds
    left = "" if eta is None else f"{duration(eta)} left"
    parts = [_steps(progress) or plain(progress.message), left, *_metrics(progress)]
    return " · ".join(part for part in parts if part)


def _steps(progress: Progress) -> str:
    if progress.step is None:
        return ""
    of_all = f"/{progress.total_steps:,}" if progress.total_steps else ""
    return f"{plain(progress.message)} {progress.step:,}{of_all}".strip()


def _metrics(progress: Progress) -> list[str]:
    values = {metric.name: metric.value for metric in progress.metrics}
    return [
        text.format(_rounded(values[name])) for name, text in _METRICS.items() if name in values
    ]


def _rounded(value: str) -> str:
    try:
        return number(float(value))
    except ValueError:
        return plain(value)
