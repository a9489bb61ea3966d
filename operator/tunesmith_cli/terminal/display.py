"""What a run shows on stderr while it works.

On a terminal the list of stages is redrawn in place; into a file or a pipe goes a plain line for
each change, and for progress at most one every few seconds. `stages.py` words the lines.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from tunesmith_api.finetunejob.status import FineTuneJobStatus, StageStatus
from tunesmith_cli.formats import duration
from tunesmith_cli.terminal.live_screen import LiveScreen
from tunesmith_cli.terminal.stages import (
    name_width,
    phase_of,
    progress_of,
    progress_text,
    stage_line,
    state_of,
)
from tunesmith_cli.terminal.style import Style, is_terminal, plain, style_of

# Seconds between two lines of progress, so that the log of an hour of training stays readable.
LINE_EVERY_S = 5.0
# Pending and Waiting are not told in lines: nothing of the stage runs yet.
_SHOWN_STATES = ("Running", "Succeeded", "Failed")
_BARE = Style(has_colour=False)


class Display(Protocol):
    """Something that a run tells its status to, and that is closed at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, status: FineTuneJobStatus) -> None:
        """Take note of the newest status."""

    def say(self, text: str) -> None:
        """Write a line that stays."""


def display_for(name: str, *, stream: TextIO) -> Display:
    """The display that suits the stream."""
    if is_terminal(stream):
        return LiveDisplay(name, stream=stream, style=style_of(stream))
    return LinesDisplay(name, stream=stream)


class LinesDisplay:
    """One line for each change of a stage; progress now and then."""

    def __init__(
        self,
        name: str,
        *,
        stream: TextIO,
        every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._stream = stream
        self._every_s = every_s
        self._clock = clock
        self._last_line = -float("inf")
        self._told: dict[str, tuple[str, int]] = {}
        self._last_text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def show(self, status: FineTuneJobStatus) -> None:
        """Write what is new."""
        for stage in status.stages:
            now = (stage.state, stage.attempt)
            # The attempt is part of it: a stage that failed and runs again is news.
            if stage.state in _SHOWN_STATES and self._told.get(stage.name) != now:
                self._told[stage.name] = now
                self._last_line = self._clock()
                self.say(f"{stage.name}: {_change_text(stage)}")
        running = next((stage for stage in status.stages if stage.state == "Running"), None)
        if running and self._clock() - self._last_line >= self._every_s:
            text = f"{running.name}: {progress_text(progress_of(status, running))}"
            # A stage that reports nothing new for minutes must not fill the log with it.
            if text != self._last_text:
                self._last_line, self._last_text = self._clock(), text
                self.say(text)

    def say(self, text: str) -> None:
        """Write a line of its own."""
        print(f"{self._name}: {text}", file=self._stream, flush=True)


class LiveDisplay(LiveScreen):
    """The list of stages, drawn over itself so that the clock moves."""

    def __init__(
        self,
        name: str,
        *,
        stream: TextIO,
        style: Style,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self._name = name
        self._style = style
        self._clock = clock
        self._begin = clock()
        self._status: FineTuneJobStatus | None = None

    def show(self, status: FineTuneJobStatus) -> None:
        """Draw the status from now on."""
        # The ticker draws it; the engine tells of more changes than a screen can show.
        self._status = status

    def lines(self, width: int) -> list[str]:
        """The head and a line for each stage."""
        status = self._status
        if status is None:
            return []
        spent = duration(self._clock() - self._begin)
        head = f"{self._name} · {phase_of(status)} · {spent}"[:width]
        lines = [self._style.paint(head, "bold")]
        names = name_width(status)
        for stage in status.stages:
            progress = progress_of(status, stage)
            line = stage_line(stage, progress=progress, style=_BARE, width=names)
            # Measured and cut without colours: escape sequences count in `len`, and a cut one
            # would colour everything below it.
            if len(line) > width:
                line = f"{line[: width - 1]}…"
            else:
                line = stage_line(stage, progress=progress, style=self._style, width=names)
            lines.append(line)
        return lines


def _change_text(stage: StageStatus) -> str:
    if stage.state == "Running":
        return f"running, attempt {stage.attempt}"
    if stage.cached:
        return "done before"
    said = plain(stage.message)
    return f"{state_of(stage)} in {duration(stage.seconds)}" + (f", {said}" if said else "")
