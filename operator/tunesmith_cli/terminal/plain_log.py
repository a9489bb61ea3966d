"""The log of a stage for a pipe: without colours, bars that redraw themselves, and false alarms.

Libraries write for terminals whatever they write to, and logs are kept as they were written; what a
reader gets is decided when they are printed.
"""

import re
from typing import Final

# ECMA-48: control sequences (colours, cursor), and commands for the terminal such as its title.
_SEQUENCES: Final = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
# Of Ray, before each line of a process that is not the stage's own.
_PREFIX: Final = re.compile(rb"^\([^()]* pid=\d+[^()]*\) ")
# Ray's controller asks an autoscaler, which a cluster of one job has not, and waits for 5 seconds;
# on busy processors that is too short, and ends in a traceback that says itself it means nothing.
_FALSE_ALARM: Final = b"it's safe to ignore this error"


class PlainLog:
    """Lines of one log as they come in; what is no whole line yet is kept for the next time."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_in_false_alarm = False

    def add(self, chunk: bytes) -> bytes:
        """The lines that are whole now."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return b"".join(line + b"\n" for line in map(_plain, lines) if self._is_shown(line))

    def rest(self) -> bytes:
        """What the log ends with, if that is no whole line."""
        line, self._rest = _plain(self._rest), b""
        return line + b"\n" if line and self._is_shown(line) else b""

    def _is_shown(self, line: bytes) -> bool:
        if _FALSE_ALARM in line:
            self._is_in_false_alarm = True
            return False
        if not self._is_in_false_alarm:
            return True
        said = _PREFIX.sub(b"", line)
        is_inside = said.startswith((b"Traceback ", b"  "))
        # The first line that is not indented names the error, and ends the traceback.
        self._is_in_false_alarm = is_inside
        return not is_inside and re.match(rb"[\w.]+: |[\w.]+$", said) is None


def _plain(line: bytes) -> bytes:
    """The line as it stands at last: a bar returns to its start to be drawn anew."""
    drawn = _SEQUENCES.sub(b"", line).rstrip(b"\r").split(b"\r")
    return drawn[-1]
