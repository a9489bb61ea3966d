"""What is written to a terminal: colour where it is wanted, tables, and no stray control codes.

Colour only on a terminal that can show it, and never where `NO_COLOR` is set
(https://no-color.org). Text that comes from data or from a model passes through `plain`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Style:
    """How text is emphasised on one stream."""

    has_colour: bool

    def paint(self, text: str, *names: str) -> str:
        """`text` in the named styles: bold, dim, red, green, yellow, cyan."""
        if not self.has_colour or not text:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def style_of(stream: TextIO) -> Style:
    """Colours for a terminal; none for files, pipes, dumb terminals and NO_COLOR."""
    return Style(has_colour=is_terminal(stream) and not os.environ.get("NO_COLOR"))


def is_terminal(stream: TextIO) -> bool:
    """Whether lines written to `stream` can be redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """`text` on one line, without characters that would steer the terminal."""
    return "".join(each if each.isprintable() else " " for each in text)


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Rows with their columns aligned; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True))
        for each in rows
    ]
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)
