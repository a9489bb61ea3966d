"""What a run shows on stderr while it works.

On a terminal the list of stages is redrawn in place; into a file or a pipe goes a plain line for
each change, and for progress at most one every few seconds.
"""

import shutil
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from tunesmith_api.finetunejob.status import FineTuneJobStatus, StageStatus
from tunesmith_cli.formats import duration
from tunesmith_cli.terminal.stages import progress_of, progress_text, stage_line, state_of
from tunesmith_cli.terminal.style import Style, is_terminal, plain, style_of

REDRAW_S = 0.5
LINE_EVERY_S = 5.0
_SHOWN_STATES = ("Running", "Succeeded", "Failed")


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
            self._tell_change(stage)
        running = [stage for stage in status.stages if stage.state == "Running"]
        if running and self._clock() - self._last_line >= self._every_s:
            text = progress_text(progress_of(status, running[0]))
            self._tell_progress(f"{running[0].name}: {text}")

    def say(self, text: str) -> None:
        """Write a line of its own."""
        print(f"{self._name}: {text}", file=self._stream, flush=True)

    def _tell_change(self, stage: StageStatus) -> None:
        now = (stage.state, stage.attempt)
        if stage.state not in _SHOWN_STATES or self._told.get(stage.name) == now:
            return
        self._told[stage.name] = now
        self._last_line = self._clock()
        self.say(f"{stage.name}: {_change_text(stage)}")

    def _tell_progress(self, text: str) -> None:
        if text != self._last_text:
            self._last_line, self._last_text = self._clock(), text
            self.say(text)


class LiveDisplay:
    """The list of stages, drawn over itself twice a second so that the clock moves."""

    def __init__(
        self,
        name: str,
        *,
        stream: TextIO,
        style: Style,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._stream = stream
        self._style = style
        self._clock = clock
        self._begin = clock()
        self._status: FineTuneJobStatus | None = None
        self._num_drawn = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._ticker.join()
        self._draw()

    def show(self, status: FineTuneJobStatus) -> None:
        """Draw the status from now on."""
        self._status = status

    def say(self, text: str) -> None:
        """Write a line above the list."""
        with self._lock:
            self._erase()
            print(text, file=self._stream, flush=True)
        self._draw()

    def _tick(self) -> None:
        while not self._is_over.wait(REDRAW_S):
            self._draw()

    def _draw(self) -> None:
        status = self._status
        if status is None:
            return
        with self._lock:
            lines = self._lines(status)
            self._erase()
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
            self._num_drawn = len(lines)

    def _erase(self) -> None:
        if self._num_drawn:
            self._stream.write(f"\x1b[{self._num_drawn}A\x1b[J")
        self._num_drawn = 0

    def _lines(self, status: FineTuneJobStatus) -> list[str]:
        """Cut to the width of the terminal, for a line that wraps cannot be drawn over."""
        width = shutil.get_terminal_size().columns - 1
        spent = duration(self._clock() - self._begin)
        plain_style = Style(has_colour=False)
        drawn = [self._style.paint(f"{self._name} · {status.phase} · {spent}"[:width], "bold")]
        for stage in status.stages:
            progress = progress_of(status, stage)
            bare = stage_line(stage, progress=progress, style=plain_style)
            fits = len(bare) <= width
            full = stage_line(stage, progress=progress, style=self._style)
            drawn.append(full if fits else f"{bare[: width - 1]}…")
        return drawn


def _change_text(stage: StageStatus) -> str:
    if stage.state == "Running":
        return f"running, attempt {stage.attempt}"
    if stage.cached:
        return "done before"
    said = plain(stage.message)
    return f"{state_of(stage)} in {duration(stage.seconds)}" + (f", {said}" if said else "")
