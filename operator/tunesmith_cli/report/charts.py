"""The charts of the report: losses by step, values with intervals, a time line, a histogram.

SVG inside the page, with classes that its style sheet colours, so that dark mode and print reach
them; an image or a script would have to be fetched. Every drawing carries a title and a
description for those who do not see it, and the page shows the same numbers in a table beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from tunesmith_cli.formats import counted, duration, number
from tunesmith_cli.report.artifacts import LengthHistogram, SweepFile, SweptPoint
from tunesmith_cli.report.svg import Markup, Scale, element, joined, scale_over

# Units of the drawing. The page scales each to its column: 640 units are as wide as the text, two
# narrow charts stand beside each other. Text would shrink with them, so the style sheet has larger
# sizes for phones, and the margins here must hold those.
_WIDTH: Final = 640.0
_NARROW: Final = 460.0
_LEFT: Final = 62.0
_RIGHT: Final = _WIDTH - 16.0
_BAR: Final = 20.0
# Columns of labels, for ten characters in the size that phones get; a longer name widens them.
_LABELS: Final = 108.0
_SPAN_LABELS: Final = 132.0
_HISTOGRAM_TOP: Final = 14.0
_HISTOGRAM_BOTTOM: Final = 142.0
_GAP: Final = 1.5

# Of a loss. One that moves by less has not moved for people, and must not look as if it had.
_LEAST_PART: Final = 0.02

# More than a screen can show; a run of 100,000 steps would make a page of megabytes.
_MOST_POINTS: Final = 300


@dataclass(frozen=True, slots=True)
class Point:
    """A loss, in nats per target token, after so many optimizer steps."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Line:
    """Losses of one kind by step; `role` is train, trained, tuned or general.

    Those of single training steps, `train`, are many and mostly noise: they have no dots.
    """

    label: str
    role: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval, where one was measured; `role` is base, tuned or compressed."""

    label: str
    role: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """What the row says, for those who do not see it."""
        text = f"{self.label} {number(self.value)}"
        if self.low is None or self.high is None:
            return text
        return f"{text} (interval {number(self.low)} to {number(self.high)})"


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt of a stage on the time line; `role` is done, failed or running."""

    label: str
    role: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


def loss_chart(lines: Sequence[Line], *, best: int | None, what: str = "Loss") -> Markup:
    """Losses, or `what` else has nats, by step; at least one line has a point."""
    points = [point for line in lines for point in line.points]
    x = scale_over((point.step for point in points), start=_LEFT, end=_RIGHT, margin=0.02)
    # There is no step before 0, however much air the scale wants.
    x = Scale(low=max(x.low, 0.0), high=x.high, start=_LEFT, end=_RIGHT)
    # Upside down: in SVG y grows downwards.
    losses = (point.loss for point in points)
    y = scale_over(losses, start=260.0, end=18.0, least_part=_LEAST_PART)
    return drawing(
        292.0,
        _loss_text(lines, best=best, what=what),
        rows_beside(y, ticks=y.ticks(num=4)),
        *(
            axis_text(number(tick), x=x(tick), y=284.0)
            for tick in x.ticks(num=6)
            if tick.is_integer()
        ),
        *(_path(_thinned(line.points), x=x, y=y, role=line.role) for line in lines),
        # NB: after the lines; SVG paints in the order of the text.
        *(
            _dot(point, x=x, y=y, role=line.role, is_best=point.step == best)
            for line in lines
            if line.role != "train"
            for point in line.points
        ),
    )


def sweep_chart(sweep: SweepFile) -> Markup:
    """The way of the weights from base to tuned: general loss to the right, held-out upwards."""
    x = scale_over((point.general for point in sweep.points), start=_LEFT, end=_RIGHT)
    y = scale_over((point.held_out for point in sweep.points), start=260.0, end=18.0)
    way = " ".join(f"{x(point.general):.1f},{y(point.held_out):.1f}" for point in sweep.points)
    return drawing(
        292.0,
        ("Held-out against general loss", "; ".join(_swept_text(point) for point in sweep.points)),
        rows_beside(y, ticks=y.ticks(num=4)),
        ticks_below(x, top=18.0, bottom=265.0),
        element("polyline", points=way, class_="line tuned"),
        *(
            joined(
                element(
                    "circle",
                    element("title", _swept_text(point)),
                    cx=x(point.general),
                    cy=y(point.held_out),
                    r=6.0 if point == sweep.knee else 3.5,
                    class_="dot tuned best" if point == sweep.knee else "dot tuned",
                ),
                axis_text(
                    f"{point.alpha:g}",
                    x=x(point.general) + 9,
                    y=y(point.held_out) - 7,
                    anchor="start",
                ),
            )
            for point in sweep.points
        ),
    )


def interval_chart(title: str, rows: Sequence[Interval]) -> Markup:
    """Values above each other on one axis, with their intervals as bars."""
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    labels = max(_LABELS, 10.5 * max(len(row.label) for row in rows))
    x = scale_over(ends, start=labels + 14.0, end=_NARROW - 96.0, margin=0.12)
    height = 34.0 * len(rows) + 40.0
    said = "; ".join(row.text for row in rows)
    return drawing(
        height,
        (title, said),
        ticks_below(x, top=8.0, bottom=height - 32.0),
        *(
            _interval(row, x=x, y=34.0 * index + 24.0, labels=labels)
            for index, row in enumerate(rows)
        ),
        width=_NARROW,
    )


def time_line(spans: Sequence[Span]) -> Markup:
    """When each attempt ran, from the first start to the last end."""
    begin = min(span.start for span in spans)
    total = max((span.end - begin).total_seconds() for span in spans)
    # At least a tenth of a second, for a job whose stages were all done before has no length.
    labels = max(_SPAN_LABELS, 13.0 * max(len(span.label) for span in spans))
    x = Scale(low=0.0, high=max(total, 0.1) * 1.01, start=labels + 14.0, end=_WIDTH - 124.0)
    height = 30.0 * len(spans) + 16.0
    said = "; ".join(f"{span.label} {duration(span.seconds)}" for span in spans)
    return drawing(
        height,
        ("When each attempt ran", said),
        *(
            _span(span, x=x, y=30.0 * index + 8.0, begin=begin, labels=labels)
            for index, span in enumerate(spans)
        ),
    )


def histogram(lengths: LengthHistogram) -> Markup:
    """How many rows have which length: bars side by side, the number of rows upwards."""
    end = lengths.start + lengths.width * len(lengths.counts)
    x = Scale(low=lengths.start, high=end, start=_LEFT, end=_RIGHT)
    # From 0, or a bar's height would not be its number.
    y = Scale(low=0.0, high=max(*lengths.counts, 1), start=_HISTOGRAM_BOTTOM, end=_HISTOGRAM_TOP)
    said = [_bin_text(lengths, index) for index, num in enumerate(lengths.counts) if num]
    return drawing(
        _HISTOGRAM_BOTTOM + 28.0,
        ("Rows by their length in tokens", "; ".join(said)),
        rows_beside(y, ticks=[tick for tick in y.ticks(num=3) if tick.is_integer()]),
        ticks_below(x, top=_HISTOGRAM_BOTTOM, bottom=_HISTOGRAM_BOTTOM),
        *(_bar(lengths, index, x=x, y=y) for index in range(len(lengths.counts))),
    )


def drawing(height: float, text: tuple[str, str], *parts: Markup, width: float = _WIDTH) -> Markup:
    """A picture with its title and description."""
    title, description = text
    return element(
        "svg",
        # Read by screen readers, where `role` and `aria-label` are not enough for all of them.
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=f"{title}: {description}",
        class_="chart" if width == _WIDTH else "chart narrow",
    )


def axis_text(text: str, *, x: float, y: float, anchor: str = "middle") -> Markup:
    """A number or a word beside an axis."""
    return element("text", text, x=x, y=y, class_="axis", text_anchor=anchor)


def rows_beside(y: Scale, *, ticks: Sequence[float]) -> Markup:
    """Lines across the drawing, and their numbers to the left."""
    labels = tick_labels(ticks)
    return joined(
        *(
            joined(
                element("line", x1=_LEFT, x2=_RIGHT, y1=y(tick), y2=y(tick), class_="grid"),
                # SVG knows the base line of text only: four units lower is the middle.
                axis_text(label, x=_LEFT - 8, y=y(tick) + 4, anchor="end"),
            )
            for tick, label in zip(ticks, labels, strict=True)
        )
    )


def ticks_below(x: Scale, *, top: float, bottom: float) -> Markup:
    """Lines at round numbers from `top` to `bottom`, and the numbers below."""
    ticks = x.ticks(num=4)
    return joined(
        *(
            joined(
                element("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid"),
                axis_text(label, x=x(tick), y=bottom + 19.0),
            )
            for tick, label in zip(ticks, tick_labels(ticks), strict=True)
        )
    )


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The numbers beside an axis, none of them rounded: two ticks could read the same."""
    labels = [number(tick) for tick in ticks]
    if [float(label.replace(",", "")) for label in labels] == list(ticks):
        return labels
    digits = max(-int(Decimal(str(tick)).as_tuple().exponent) for tick in ticks)
    return [f"{tick:,.{max(digits, 0)}f}" for tick in ticks]


def _loss_text(lines: Sequence[Line], *, best: int | None, what: str) -> tuple[str, str]:
    said = [
        f"{line.label} from {number(line.points[0].loss)} to {number(line.points[-1].loss)}"
        for line in lines
        if line.points
    ]
    if best is not None:
        said.append(f"best at step {best}")
    return f"{what} by optimizer step", ", ".join(said)


def _swept_text(point: SweptPoint) -> str:
    held_out, general = number(point.held_out), number(point.general)
    return f"at {point.alpha:g}: held-out {held_out}, general {general}"


def _path(points: Sequence[Point], *, x: Scale, y: Scale, role: str) -> Markup:
    corners = " ".join(f"{x(point.step):.1f},{y(point.loss):.1f}" for point in points)
    return element("polyline", points=corners, class_=f"line {role}")


def _dot(point: Point, *, x: Scale, y: Scale, role: str, is_best: bool) -> Markup:
    classes = f"dot {role} best" if is_best else f"dot {role}"
    radius = 6.0 if is_best else 3.5
    # Browsers show the title of a shape as its tooltip, without a script.
    said = element("title", f"step {point.step}: {number(point.loss)}")
    return element("circle", said, cx=x(point.step), cy=y(point.loss), r=radius, class_=classes)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most 300 points, each the mean of its neighbours."""
    # The mean, not every n-th: a single step's loss is mostly noise.
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[index : index + size] for index in range(0, len(points), size)]
    return [
        Point(
            step=round(sum(point.step for point in group) / len(group)),
            loss=sum(point.loss for point in group) / len(group),
        )
        for group in groups
    ]


def _interval(row: Interval, *, x: Scale, y: float, labels: float) -> Markup:
    parts = [element("text", row.label, x=labels, y=y + 5, class_="label", text_anchor="end")]
    if row.low is not None and row.high is not None:
        parts.append(
            element(
                "rect",
                x=x(row.low),
                y=y - 5,
                # An interval without width is still to be seen.
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


def _span(span: Span, *, x: Scale, y: float, begin: datetime, labels: float) -> Markup:
    left = x((span.start - begin).total_seconds())
    width = max(x((span.end - begin).total_seconds()) - left, 2.0)
    return joined(
        element("text", span.label, x=labels, y=y + 15, class_="label", text_anchor="end"),
        element("rect", x=left, y=y, width=width, height=_BAR, rx=3.0, class_=f"span {span.role}"),
        element("text", duration(span.seconds), x=left + width + 8, y=y + 15, class_="axis"),
    )


def _bar(lengths: LengthHistogram, index: int, *, x: Scale, y: Scale) -> Markup:
    first = lengths.start + index * lengths.width
    top, left = y(lengths.counts[index]), x(first) + _GAP / 2
    return element(
        "rect",
        element("title", _bin_text(lengths, index)),
        x=left,
        y=top,
        # SVG refuses negative sizes: a hundred bins leave hardly more than the gap.
        width=max(x(first + lengths.width) - left - _GAP / 2, 0.5),
        height=_HISTOGRAM_BOTTOM - top,
        class_="bar",
    )


def _bin_text(lengths: LengthHistogram, index: int) -> str:
    first = lengths.start + index * lengths.width
    last = first + lengths.width - 1
    tokens = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    return f"{tokens} tokens: {counted(lengths.counts[index], 'row')}"
