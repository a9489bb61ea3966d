"""The forms in which the report shows things: figures, tables, marked text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from tunesmith_cli.formats import number
from tunesmith_cli.report.conversation import Part, parts_of
from tunesmith_cli.report.svg import Markup

_LONGEST_CELL = 300


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


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a row of data, and whether the model is trained to write it."""

    parts: tuple[Part, ...]
    is_trained: bool


def marked(text: str, spans: list[tuple[int, int]], *, markers: Sequence[str]) -> list[Piece]:
    """The text cut at the borders of the trained spans, in order."""
    pieces, position = [], 0
    for start, end in sorted(spans):
        pieces.append((text[position:start], False))
        pieces.append((text[max(start, position) : end], True))
        position = max(position, end)
    pieces.append((text[position:], False))
    return [
        Piece(parts=tuple(parts_of(each, markers)), is_trained=is_trained)
        for each, is_trained in pieces
        if each
    ]


def flattened(value: JsonValue, *, path: str = "") -> Iterator[tuple[str, str]]:
    """Every plain value inside a JSON value, with the words of its path."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from flattened(child, path=f"{path} › {in_words(key)}" if path else in_words(key))
    elif isinstance(value, list):
        for index, child in enumerate(value, start=1):
            yield from flattened(child, path=f"{path} {index}" if len(value) > 1 else path)
    elif value is not None:
        yield path, shown(value)


def shown(value: JsonValue) -> str:
    """A plain JSON value as people read it."""
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
    words = "".join(f" {each.lower()}" if each.isupper() else each for each in name)
    return words.replace("_", " ").strip()
