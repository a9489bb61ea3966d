"""The command `tunesmith` under a wall clock that a test sets: `python set_clock.py ARGUMENTS`.

Only the wall clock of the operator differs, as when a node's clock is set: monotonic clocks go on,
and so does the API server by a clock of its own.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final

AHEAD: Final = "TEST_CLOCK_AHEAD"
PROGRAM: Final = (str(Path(__file__)),)


class SetClock:
    """How far the wall clock of a process is ahead: in a file, which another process reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set_ahead(0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs that goes by this clock."""
        return {AHEAD: str(self._path)}

    def set_ahead(self, seconds: int) -> None:
        """Set the clock so far ahead of the others."""
        # In one step: a reader between two would find an empty file.
        new = self._path.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._path)


def _install(path: Path, true_time: Callable[[], float]) -> None:
    """Have the operator, whose modules are imported by now, tell the time by the file."""

    def set_time() -> float:
        return true_time() + int(path.read_text())

    class SetDateTime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "SetDateTime":
            return cls.fromtimestamp(set_time(), tz)

    time.time = set_time
    # Of our own modules alone: pydantic's schemas ask for the class itself.
    for name, module in list(sys.modules.items()):
        if name.startswith("tunesmith_operator") and vars(module).get("datetime") is datetime:
            module.datetime = SetDateTime  # type: ignore[attr-defined]


if __name__ == "__main__":
    import tunesmith_operator.app  # noqa: F401 - before its clocks are replaced
    from tunesmith_cli.main import main

    _install(Path(os.environ[AHEAD]), time.time)
    sys.exit(main())
