"""Two measures against each other, of several arms with their ranges over the seeds.

Arms are numbered: those that nearly agree would write their names over each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_cli.formats import number
from tunesmith_cli.report.svg import Markup, Scale, element, joined, scale_over

WIDTH: Final = 640.0
HEIGHT: Final = 380.0
_STYLES: Final = Path(__file__).parents[1] / "operator" / "tunesmith_cli" / "report" / "templates"


@dataclass(frozen=True, slots=True)
class Range:
    """Median of the seeds, with the least and the largest."""

    median: float
    least: float
    largest: float

    @property
    def ends(self) -> tuple[float, float, float]:
        """What an axis must hold."""
        return self.least, self.median, self.largest


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's place: `across` to the right, `up` upwards."""

    label: str
    across: Range
    up: Range


def trade_off_chart(
    arms: Sequence[Arm],
    *,
    ways: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
) -> Markup:
    """A dot with a cross of ranges for each arm; `ways` are lines, of weights between two models.

    `across` and `up` name the axes.
    """
    corners = [corner for way in ways.values() for corner in way]
    x = scale_over(
        [*(end for arm in arms for end in arm.across.ends), *(corner[0] for corner in corners)],
        start=66.0,
        end=WIDTH - 24.0,
    )
    y = scale_over(
        [*(end for arm in arms for end in arm.up.ends), *(corner[1] for corner in corners)],
        start=HEIGHT - 64.0,
        end=18.0,
    )
    title = f"{up} against {across}"
    said = "; ".join(_said(place, arm) for place, arm in enumerate(arms, start=1))
    return element(
        "svg",
        element("title", title),
        element("desc", said),
        _axes(x, y, across=across, up=up),
        *(_way(label, way, x=x, y=y) for label, way in ways.items()),
        *(_arm(place, arm, x=x, y=y) for place, arm in enumerate(arms, start=1)),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        aria_label=title,
        class_="chart",
    )


def standalone(chart: Markup, *, legend: Iterable[str]) -> str:
    """The chart as a file of its own, with the report's colours and a legend below."""
    styles = "".join(
        (_STYLES / name).read_text(encoding="utf-8") for name in ("base.css", "report.css")
    )
    lines = list(legend)
    texts = joined(
        *(
            element("text", line, x=66.0 + 290.0 * (place % 2), y=HEIGHT + 22.0 * (place // 2 + 1))
            for place, line in enumerate(lines)
        )
    )
    height = HEIGHT + 22.0 * ((len(lines) + 1) // 2) + 16.0
    size = f'viewBox="0 0 {WIDTH:.0f} {height:.0f}"'
    # CDATA: style sheets hold `>`, and XML is read more strictly than HTML.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} class="chart" '
        f'font-family="sans-serif"><style><![CDATA[{styles}]]>'
        f'</style><rect width="100%" height="100%" style="fill: var(--card)"/>'
        f'<svg width="{WIDTH:.0f}" height="{HEIGHT:.0f}">{chart}</svg>{texts}</svg>'
    )


def _axes(x: Scale, y: Scale, *, across: str, up: str) -> Markup:
    left, right, top, bottom = x.start, x.end, y.end, y.start
    return joined(
        *(
            joined(
                element("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid"),
                _text(number(tick), x=x(tick), y=bottom + 19.0),
            )
            for tick in x.ticks(num=6)
        ),
        *(
            joined(
                element("line", x1=left, x2=right, y1=y(tick), y2=y(tick), class_="grid"),
                _text(number(tick), x=left - 8.0, y=y(tick) + 4.0, anchor="end"),
            )
            for tick in y.ticks(num=5)
        ),
        _text(f"{across} (right), {up} (up)", x=(left + right) / 2, y=bottom + 46.0),
    )


def _text(text: str, *, x: float, y: float, anchor: str = "middle") -> Markup:
    return element("text", text, x=x, y=y, class_="axis", text_anchor=anchor)


def _way(label: str, way: Sequence[tuple[float, float]], *, x: Scale, y: Scale) -> Markup:
    corners = " ".join(f"{x(across):.1f},{y(up):.1f}" for across, up in way)
    said = element("title", f"{label}, between base and tuned weights")
    return element("polyline", said, points=corners, class_="line train")


def _arm(place: int, arm: Arm, *, x: Scale, y: Scale) -> Markup:
    across, up = x(arm.across.median), y(arm.up.median)
    ranges = (
        (x(arm.across.least), up, x(arm.across.largest), up),
        (across, y(arm.up.least), across, y(arm.up.largest)),
    )
    return joined(
        *(
            element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="line tuned")
            for x1, y1, x2, y2 in ranges
        ),
        element(
            "circle",
            element("title", _said(place, arm)),
            cx=across,
            cy=up,
            r=4.5,
            class_="dot tuned",
        ),
        element("text", str(place), x=across + 7.0, y=up - 7.0),
    )


def _said(place: int, arm: Arm) -> str:
    return f"{place} {arm.label}: {number(arm.across.median)} across, {number(arm.up.median)} up"
