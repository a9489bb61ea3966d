"""The charts of the report, as SVG that takes its colours from the page's style sheet.

Every drawing carries a title and a description for those who do not see it; the page shows the
same numbers in a table beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tunesmith_cli.formats import duration, number
from tunesmith_cli.report.scales import Scale, scale_over
from tunesmith_cli.report.svg import Markup, element, joined

WIDTH = 640.0
_NARROW = 460.0
LEFT = 62.0
RIGHT = WIDTH - 16.0
_MOST_POINTS = 300
_BAR = 20.0
_LABELS = 108.0
# Wider: a phone shows this chart's text larger in its own units.
_SPAN_LABELS = 132.0


@dataclass(frozen=True, slots=True)
class Point:
    """A loss, in nats per target token, after so many optimizer steps."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval, where one was measured; `role` is base, tuned or compressed."""

    label: str
    role: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt of a stage on the time line; `role` is done, failed or running."""

    label: str
    role: str
    start: datetime
    end: datetime


def loss_chart(train: Sequence[Point], held_out: Sequence[Point], *, best: int | None) -> Markup:
    """Training and held-out loss by step; at least one of the two has a point."""
    everything = [*train, *held_out]
    x = scale_over((each.step for each in everything), start=LEFT, end=RIGHT, margin=0.02)
    x = Scale(low=max(x.low, 0.0), high=x.high, start=LEFT, end=RIGHT)
    y = scale_over((each.loss for each in everything), start=260.0, end=18.0)
    return drawing(
        292.0,
        _loss_text(train, held_out, best=best),
        _grid(x=x, y=y, bottom=264.0),
        _path(_thinned(train), x=x, y=y, role="train"),
        _path(held_out, x=x, y=y, role="tuned"),
        *(_dot(each, x=x, y=y, is_best=each.step == best) for each in held_out),
    )


def interval_chart(title: str, rows: Sequence[Interval]) -> Markup:
    """Values above each other on one axis, with their intervals as bars."""
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    x = scale_over(ends, start=_LABELS + 14.0, end=_NARROW - 96.0, margin=0.12)
    height = 34.0 * len(rows) + 40.0
    said = "; ".join(f"{row.label} {number(row.value)}{_between(row)}" for row in rows)
    return drawing(
        height,
        (title, said),
        ticks_below(x, top=8.0, bottom=height - 32.0),
        *(_interval(row, x=x, y=34.0 * index + 24.0) for index, row in enumerate(rows)),
        width=_NARROW,
    )


def time_line(spans: Sequence[Span]) -> Markup:
    """When each attempt ran, from the first start to the last end."""
    begin = min(span.start for span in spans)
    total = max((span.end - begin).total_seconds() for span in spans)
    x = Scale(low=0.0, high=max(total, 0.1) * 1.01, start=_SPAN_LABELS + 14.0, end=WIDTH - 124.0)
    height = 30.0 * len(spans) + 16.0
    said = "; ".join(f"{span.label} {duration(_seconds(span))}" for span in spans)
    return drawing(
        height,
        ("When each attempt ran", said),
        *(_span(span, x=x, y=30.0 * index + 8.0, begin=begin) for index, span in enumerate(spans)),
    )


def drawing(height: float, text: tuple[str, str], *parts: Markup, width: float = WIDTH) -> Markup:
    """A picture with its title and description."""
    title, description = text
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=f"{title}: {description}",
        class_="chart" if width == WIDTH else "chart narrow",
    )


def _loss_text(
    train: Sequence[Point], held_out: Sequence[Point], *, best: int | None
) -> tuple[str, str]:
    said = []
    if train:
        said.append(f"training loss from {number(train[0].loss)} to {number(train[-1].loss)}")
    if held_out:
        said.append(f"held-out from {number(held_out[0].loss)} to {number(held_out[-1].loss)}")
    if best is not None:
        said.append(f"best at step {best}")
    return "Loss by optimizer step", ", ".join(said)


def _grid(*, x: Scale, y: Scale, bottom: float) -> Markup:
    rows = [
        joined(
            element("line", x1=LEFT, x2=RIGHT, y1=y(tick), y2=y(tick), class_="grid"),
            element(
                "text", number(tick), x=LEFT - 8, y=y(tick) + 4, class_="axis", text_anchor="end"
            ),
        )
        for tick in y.ticks(num=4)
    ]
    columns = [
        element("text", number(tick), x=x(tick), y=bottom + 20, class_="axis", text_anchor="middle")
        for tick in x.ticks(num=6)
        if tick.is_integer()
    ]
    return joined(*rows, *columns)


def ticks_below(x: Scale, *, top: float, bottom: float) -> Markup:
    """Lines at round numbers from `top` to `bottom`, and the numbers below."""
    return joined(
        *(
            joined(
                element("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid"),
                element(
                    "text", number(tick), x=x(tick), y=bottom + 19.0, class_="axis",
                    text_anchor="middle",
                ),
            )
            for tick in x.ticks(num=4)
        )
    )  # fmt: skip


def _path(points: Sequence[Point], *, x: Scale, y: Scale, role: str) -> Markup:
    places = " ".join(f"{x(each.step):.1f},{y(each.loss):.1f}" for each in points)
    return element("polyline", points=places, class_=f"line {role}")


def _dot(point: Point, *, x: Scale, y: Scale, is_best: bool) -> Markup:
    role = "dot tuned best" if is_best else "dot tuned"
    radius = 6.0 if is_best else 3.5
    said = element("title", f"step {point.step}: {number(point.loss)}")
    return element("circle", said, cx=x(point.step), cy=y(point.loss), r=radius, class_=role)


def _interval(row: Interval, *, x: Scale, y: float) -> Markup:
    parts = [element("text", row.label, x=_LABELS, y=y + 5, class_="label", text_anchor="end")]
    if row.low is not None and row.high is not None:
        parts.append(
            element(
                "rect",
                x=x(row.low),
                y=y - 5,
                width=max(x(row.high) - x(row.low), 1.0),
                height=10.0,
                rx=5.0,
                class_=f"range {row.role}",
            )
        )
    parts += [
        element("circle", cx=x(row.value), cy=y, r=6.0, class_=f"dot {row.role}"),
        element("text", number(row.value), x=_NARROW - 84.0, y=y + 5, class_="label strong"),
    ]
    return joined(*parts)


def _between(row: Interval) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" (interval {number(row.low)} to {number(row.high)})"


def _span(span: Span, *, x: Scale, y: float, begin: datetime) -> Markup:
    left = x((span.start - begin).total_seconds())
    width = max(x((span.end - begin).total_seconds()) - left, 2.0)
    return joined(
        element("text", span.label, x=_SPAN_LABELS, y=y + 15, class_="label", text_anchor="end"),
        element("rect", x=left, y=y, width=width, height=_BAR, rx=3.0, class_=f"span {span.role}"),
        element("text", duration(_seconds(span)), x=left + width + 8, y=y + 15, class_="axis"),
    )


def _seconds(span: Span) -> float:
    return (span.end - span.start).total_seconds()


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most 300 points, each the mean of its neighbours: more than a screen can show."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[index : index + size] for index in range(0, len(points), size)]
    return [
        Point(
            step=round(sum(each.step for each in group) / len(group)),
            loss=sum(each.loss for each in group) / len(group),
        )
        for group in groups
    ]
