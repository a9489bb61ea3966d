"""Elements of HTML and SVG, the escaping of everything in them, and scales for drawings.

The lowest part of the report: `charts.py` draws with it, `page.py` escapes with it. Text of data,
models and logs becomes text here and nothing else.
"""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Steps of an axis that people can count along, as parts of a power of ten.
_ROUND_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Markup:
    """Markup that we wrote; the template puts it in as it is."""

    text: str

    def __html__(self) -> str:
        # The protocol of MarkupSafe, by which Jinja knows what is not to be escaped again.
        return self.text

    def __str__(self) -> str:
        return self.text


def escaped(text: object) -> Markup:
    """Any text, harmless in an element and in a quoted attribute."""
    # NB: `=` as well, which HTML does not ask for: so text from data can never read as an
    # attribute, not even to a program that searches the page for `src=`.
    return Markup(html.escape(str(text)).replace("=", "&#61;"))


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """One element; text children are escaped, floats are written with one digit.

    `stroke_width` is written `stroke-width` and `class_` is written `class`: neither is a name in
    Python.
    """
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="'
        # A tenth of a unit is less than a pixel, and keeps the page small.
        f'{escaped(f"{value:.1f}" if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
    )
    # Never `<rect/>`: the page is parsed as HTML, where only a closing tag is read alike by all.
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*parts: Markup | str) -> Markup:
    """Several parts, one after the other."""
    return Markup(
        "".join(str(part if isinstance(part, Markup) else escaped(part)) for part in parts)
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` are placed from `start` to `end`, in the units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, *, num: int = 5) -> list[float]:
        """About `num` round numbers within the scale."""
        rough = (self.high - self.low) / num
        power = 10.0 ** math.floor(math.log10(rough))
        # The tolerances keep a tick that rounding has pushed a hair off the step or the ends.
        step = next(part * power for part in _ROUND_STEPS if part * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        # Counted, not summed, and cut to ten digits: 3 × 0.1 must read 0.3.
        return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def scale_over(
    values: Iterable[float],
    *,
    start: float,
    end: float,
    margin: float = 0.06,
    least_part: float = 0.0,
) -> Scale:
    """A scale that holds every value, with some air at both ends.

    `least_part`: it spans at least this part of the largest value, so that a change that is nothing
    beside the values does not fill the drawing.

    Raises:
        ValueError: there is no value.
    """
    known = list(values)
    low, high = min(known), max(known)
    # One value, or several equal ones, have no range: then the air comes from their size, or is 1.
    air = (high - low) * margin or abs(high) * margin or 1.0
    air = max(air, (least_part * max(abs(low), abs(high)) - (high - low)) / 2)
    return Scale(low=low - air, high=high + air, start=start, end=end)
