"""The forms in which the report shows things: figures, tables, charts, and JSON in words.

The template has one macro for each; `context.py` and the modules beside it fill them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from tunesmith_cli.formats import number
from tunesmith_cli.report.svg import Markup

# Characters in a cell: a few lines on a phone. Whole answers and rows stand in their artifacts.
_LONGEST_CELL: Final = 300


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that stands out; `note` says what it is compared with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a head; the first cell of a row names it. `numeric` are columns of numbers."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with the sentence below it."""

    drawing: Markup
    caption: str


def table_of(
    caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numeric: Sequence[int]
) -> Table | None:
    """The table, or None without rows: an empty one would say that something is missing."""
    return Table(caption, head, rows, frozenset(numeric)) if rows else None


def json_table(
    caption: str, value: Mapping[str, JsonValue], *, most_rows: int | None = None
) -> Table | None:
    """A table of every plain value inside a JSON object, each under the words of its path."""
    rows = [row for row in _flattened(dict(value)) if row[1]]
    if most_rows is not None and len(rows) > most_rows:
        rows = [*rows[:most_rows], ("…", f"{len(rows) - most_rows:,} more")]
    return table_of(caption, ("field", "value"), rows, numeric=())


def shown(value: JsonValue) -> str:
    """A plain JSON value as people read it."""
    # NB: before the numbers, for a bool is an int in Python.
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    text = str(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"


def in_words(name: str) -> str:
    """`exactDuplicates` as `exact duplicates`; a name that is no camelCase stays as it is."""
    if not name.isidentifier() or name.isupper():
        return name
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in name)
    return words.replace("_", " ").strip()


def _flattened(value: JsonValue, *, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, child in value.items():
            words = in_words(key)
            yield from _flattened(child, path=f"{path} › {words}" if path else words)
    elif isinstance(value, list):
        for index, child in enumerate(value, start=1):
            # The only one of a list needs no number.
            yield from _flattened(child, path=f"{path} {index}" if len(value) > 1 else path)
    elif value is not None:
        yield path, shown(value)
