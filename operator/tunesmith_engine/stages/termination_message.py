"""What a status says of a process that ended by an error: the error's type and where it was raised.

NB: not its words. What an exception says that nobody expected may quote a row or a secret, and
status, Events and reports are read by more people than the stage's log, which has it whole. Told
are what cannot quote anything: which module is missing, and the operating system's own words.
"""

import os
import re
from collections.abc import Sequence
from pathlib import PurePath
from traceback import extract_tb
from typing import Final

Frame = tuple[str, int]

_TRACEBACK: Final = "Traceback (most recent call last)"
_FRAME: Final = re.compile(r'^ +File "(?P<file>[^"\n]+)", line (?P<line>\d+).*$', re.MULTILINE)
_ERROR: Final = re.compile(r"^(?:\w+\.)*(?P<type>\w+)(?:: (?P<words>.*))?$")
# Of a log whose traceback is cut off.
_TYPE: Final = re.compile(r"^\w*(Error|Exception)$")
_MISSING: Final = ("ImportError", "ModuleNotFoundError")
# Below these a path is that of a module.
_ROOTS: Final = ("site-packages", "dist-packages", "lib-dynload")
_OURS: Final = "tunesmith_"


def termination_message(text: str) -> str:
    """Of a traceback, or a log that ends with one, type and place; of another text its last line.

    That is the last line that is not indented: what follows it are notes of the libraries.
    """
    # Of several tracebacks the last one: those before it were handled, or it came of them.
    frames = [*_FRAME.finditer(text, max(0, text.rfind(_TRACEBACK)))]
    after = text[frames[-1].end() :] if frames else text
    lines = [line for line in after.splitlines() if line.strip()]
    outer = [line for line in lines if not line[0].isspace()] or lines or [""]
    # The error stands right behind the last frame, and may go on for lines of any kind.
    line = outer[0 if frames else -1].strip()
    error = _ERROR.match(line)
    if error is None or not (frames or _TYPE.match(error["type"])):
        return line
    words = (error["words"] or "") if error["type"] in _MISSING else ""
    return _told(error["type"], words, [(each["file"], int(each["line"])) for each in frames])


def crash_message(error: BaseException) -> str:
    """Type and place of an exception."""
    words = ""
    if isinstance(error, ImportError):
        words = (str(error).splitlines() or [""])[0]
    elif isinstance(error, OSError) and error.errno:
        words = os.strerror(error.errno)
    frames = [(frame.filename, frame.lineno or 0) for frame in extract_tb(error.__traceback__)]
    return _told(type(error).__name__, words, frames)


def _told(name: str, words: str, frames: Sequence[Frame]) -> str:
    """`KeyError at torch/x.py:7, from tunesmith_trainer/y.py:3`."""
    said = f"{name}: {words}" if words else name
    # Of the import machinery nobody wants to know.
    frames = [frame for frame in frames if not frame[0].startswith("<")]
    if not frames:
        return said
    ours = [frame for frame in frames if _OURS in frame[0]]
    place, caller = _place(frames[-1]), _place((ours or frames)[-1])
    return f"{said} at {place}" + (f", from {caller}" if caller != place else "")


def _place(frame: Frame) -> str:
    """File and line, with nothing of the machine's own folders."""
    parts = PurePath(frame[0]).parts
    first = max(0, len(parts) - 2)
    for at, part in enumerate(parts):
        if part in _ROOTS or re.fullmatch(r"python3\.\d+", part):
            first = at + 1
        elif part.startswith(_OURS):
            first = at
            break
    return f"{'/'.join(parts[first:])}:{frame[1]}"
