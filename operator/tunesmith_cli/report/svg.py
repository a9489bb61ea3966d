"""Pieces of HTML and SVG: what is ours is marked as such, everything else is escaped.

`=` is escaped too, so that text from data can never read as an attribute, not even to a program
that searches the page for `src=`.
"""

import html
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Markup:
    """Markup that we wrote; the template puts it in as it is."""

    text: str

    def __html__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text


def escaped(text: object) -> Markup:
    """Any text, harmless in an element and in a quoted attribute."""
    return Markup(html.escape(str(text)).replace("=", "&#61;"))


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """One element; text children are escaped, `stroke_width` is written `stroke-width`."""
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{escaped(_short(value))}"'
        for key, value in attributes.items()
    )
    inner = joined(*children)
    return Markup(f"<{name}{given}>{inner}</{name}>")


def joined(*parts: Markup | str) -> Markup:
    """Several pieces, one after the other."""
    return Markup(
        "".join(str(each if isinstance(each, Markup) else escaped(each)) for each in parts)
    )


def _short(value: object) -> object:
    return f"{value:.1f}" if isinstance(value, float) else value
