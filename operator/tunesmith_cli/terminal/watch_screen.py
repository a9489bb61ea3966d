"""The view of a deployment on a terminal, drawn over itself."""

import shutil
from typing import TextIO

from tunesmith_cli.terminal.live_screen import LiveScreen
from tunesmith_cli.terminal.style import Style
from tunesmith_cli.terminal.watch_view import view_lines
from tunesmith_engine.monitoring.view import DeploymentView


class WatchScreen(LiveScreen):
    """The newest view, cut to the terminal."""

    def __init__(self, stream: TextIO, *, style: Style) -> None:
        super().__init__(stream)
        self._style = style
        self._view: DeploymentView | None = None

    def show(self, view: DeploymentView) -> None:
        """Draw the view from now on."""
        self._view = view

    def lines(self, width: int) -> list[str]:
        """The view; what does not fit is left out, for only what is on the screen is drawn over."""
        if self._view is None:
            return []
        # Cut without colours: escape sequences would count as width.
        lines = view_lines(self._view, style=Style(has_colour=False))
        height = shutil.get_terminal_size().lines - 2
        cut = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines[:height]]
        if len(lines) > height:
            cut[-1] = "… (a higher window shows more)"
        return [
            self._style.paint(cut[0], "bold"),
            *(
                self._style.paint(line, "red") if line.startswith("  ! ") else line
                for line in cut[1:]
            ),
        ]
