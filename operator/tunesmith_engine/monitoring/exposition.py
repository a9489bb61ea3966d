"""Prometheus' text format, as far as replicas are read by us: some of hundreds of series."""

import re
from collections.abc import Iterator
from math import isfinite, isnan
from typing import Final

_LINE: Final = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def series(text: str, *, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and finite value of each line of these names; other lines are passed over.

    NB: labels with a quote in their value are none of ours, and are not read.
    """
    for line in text.splitlines():
        # Cheaper than the expression, and true of few lines.
        matched = _LINE.match(line) if line.startswith(names) else None
        if matched is None or matched[1] not in names:
            continue
        value = number(matched[3])
        if value is not None and isfinite(value):
            yield matched[1], dict(_LABEL.findall(matched[2] or "")), value


def number(text: str) -> float | None:
    """A value or a boundary; None for NaN, and for what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if isnan(value) else value
