"""The pieces that a model card is written of, in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

ABSENT: Final = "–"


def section(title: str, *paragraphs: str) -> str:
    """A headline and its paragraphs; empty ones are left out."""
    return "\n\n".join([f"## {title}", *filter(None, paragraphs)])


def bullets(items: Iterable[str]) -> str:
    """A list, one line for each item."""
    return "\n".join(f"- {item}" for item in items)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold any text."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in cells] for cells in lines)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in escaped)


def number(value: Any) -> str:
    """Four digits that count, or a dash for None."""
    return ABSENT if value is None else f"{float(value):.4g}"
