"""How text is written to a terminal: colour where it is wanted, tables, and no control codes.

Text that comes from data, a model, a log or the cluster passes through `plain` first.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

# Select Graphic Rendition of ECMA-48, of which the eight basic colours follow the user's theme.
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


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
    # https://no-color.org: any value but the empty one switches colours off, `0` as well.
    return Style(has_colour=is_terminal(stream) and not os.environ.get("NO_COLOR"))


def is_terminal(stream: TextIO) -> bool:
    """Whether lines written to `stream` can be redrawn."""
    # Emacs' shell and some CI consoles are terminals that print escape sequences as they stand;
    # they say so with TERM=dumb.
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """`text` on one line, without characters that would steer the terminal."""
    # A model may answer, and a data row may hold, escape sequences that clear the screen, set the
    # title or fake a prompt. `isprintable` refuses C0 and C1 controls, line ends and the marks that
    # turn the direction of writing around. A space each, so that widths stay what `len` says.
    return "".join(char if char.isprintable() else " " for char in text)


def paragraph(text: str, *, indent: str) -> str:
    """`text` line by line, those after the first one below each other."""
    return f"\n{indent}".join(map(plain, text.splitlines()))


def warning_lines(warnings: Iterable[str], *, style: Style) -> str:
    """A line for each different warning."""
    mark = style.paint("warning", "yellow")
    return "\n".join(f"{mark}  {plain(warning)}" for warning in dict.fromkeys(warnings))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows with their columns aligned; the first row is the head. No cell may hold colours.

    Escape sequences would count as width.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    # An empty last cell would pad the line and wrap it on a narrow terminal.
    return "\n".join(line.rstrip() for line in lines)
