"""What a run shows while it works: lines into a file, a redrawn list on a terminal."""

import io
import queue
import signal
import threading
from pathlib import Path

import pytest

from job_folders import a_finished_job, a_running_job
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_cli.terminal.display import LinesDisplay, LiveDisplay, display_for
from tunesmith_cli.terminal.signals import stopping
from tunesmith_cli.terminal.style import Style


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def running(tmp_path: Path) -> FineTuneJobStatus:
    return a_running_job(tmp_path).status


def test_a_file_gets_a_line_for_each_change_of_a_stage(
    tmp_path: Path, running: FineTuneJobStatus
) -> None:
    stream, clock = io.StringIO(), Clock()
    display = LinesDisplay("helpdesk", stream=stream, clock=clock)

    display.show(running)
    display.show(running)
    display.show(a_finished_job(tmp_path).status)

    assert stream.getvalue().splitlines() == [
        "helpdesk: prepare: done in 6.2 s",
        "helpdesk: train: running, attempt 1",
        "helpdesk: train: done in 2 min 31 s",
        "helpdesk: evaluate: done in 20 s",
        "helpdesk: compress: done in 31 s",
        "helpdesk: verify: done in 1 min 14 s",
        "helpdesk: publish: done in 2.4 s",
    ]


def test_a_file_gets_progress_at_most_every_few_seconds(running: FineTuneJobStatus) -> None:
    stream, clock = io.StringIO(), Clock()
    display = LinesDisplay("helpdesk", stream=stream, clock=clock, every_s=5.0)

    for step in range(1, 101):
        assert running.progress is not None
        progress = running.progress.model_copy(update={"step": step})
        display.show(running.model_copy(update={"progress": progress}))
        clock.now += 0.2

    lines = [line for line in stream.getvalue().splitlines() if "training" in line]
    assert len(lines) == 3
    assert lines[0] == (
        "helpdesk: train: training 26/30 · 1 min 05 s left · loss 2.31 · held-out 2.4 "
        "· 310.2 tokens/s"
    )


def test_a_terminal_shows_every_stage_and_draws_over_itself(
    running: FineTuneJobStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock = Terminal(), Clock()

    with LiveDisplay("helpdesk", stream=stream, style=Style(has_colour=False), clock=clock) as it:
        it.show(running)
        clock.now = 42.0
        it.say("stopping")

    last = stream.getvalue().rpartition("\x1b[3A\x1b[J")[2]
    assert last.splitlines() == [
        "helpdesk · Training · 42 s",
        "✓ prepare   6.2 s, Succeeded",
        "● train     training 12/30 · 1 min 05 s left · loss 2.31 · held-out 2.4 · 310.…",
    ]
    assert "stopping\n" in stream.getvalue()


def test_the_column_of_names_holds_the_longest(running: FineTuneJobStatus) -> None:
    stream, first = Terminal(), running.stages[0]
    longer = first.model_copy(update={"name": "backtranslate"})
    status = running.model_copy(update={"stages": [first, longer]})

    with LiveDisplay("helpdesk", stream=stream, style=Style(has_colour=False)) as display:
        display.show(status)

    lines = stream.getvalue().splitlines()[-2:]
    assert lines[0].index("6.2 s") == lines[1].index("6.2 s")


def test_no_line_is_wider_than_the_terminal(
    running: FineTuneJobStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that wraps could not be drawn over."""
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()

    with LiveDisplay("helpdesk", stream=stream, style=Style(has_colour=False)) as display:
        display.show(running)

    assert max(map(len, stream.getvalue().splitlines())) <= 39


@pytest.mark.parametrize(
    ("stream", "variables", "kind"),
    [
        (Terminal(), {"TERM": "xterm"}, "live, coloured"),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, "live"),
        (Terminal(), {"TERM": "dumb"}, "lines"),
        (io.StringIO(), {"TERM": "xterm"}, "lines"),
    ],
    ids=["terminal", "without colour", "dumb terminal", "file"],
)
def test_the_display_suits_the_stream(
    stream: io.StringIO,
    variables: dict[str, str],
    kind: str,
    running: FineTuneJobStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with display_for("helpdesk", stream=stream) as display:
        display.show(running)

    assert isinstance(display, LiveDisplay) is kind.startswith("live")
    assert ("\x1b[3" in stream.getvalue()) is kind.endswith("coloured")


def test_the_first_ctrl_c_asks_to_stop_and_the_second_insists() -> None:
    stop, said = threading.Event(), queue.Queue[str]()

    with stopping(stop, say=said.put):
        signal.raise_signal(signal.SIGINT)
        asked = stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert asked
    assert said.get(timeout=5) == "stopping after Ctrl-C; press it again to stop at once"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
