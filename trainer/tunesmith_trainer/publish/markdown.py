"""The few forms of Markdown that a model card needs."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

ABSENT: Final = "–"


def section(title: str, *paragraphs: str) -> str:
    """A headline and its paragraphs; empty ones are left out."""
    return "\n\n".join([f"## {title}", *(each for each in paragraphs if each)])


def bullets(items: Iterable[str]) -> str:
    """A list, one line for each item."""
    return "\n".join(f"- {each}" for each in items)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold any text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(each) for each in line) + " |" for line in lines)


def number(value: Any) -> str:
    """Four digits that count, or a dash for None."""
    return ABSENT if value is None else f"{float(value):.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
