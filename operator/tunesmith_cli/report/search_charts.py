"""The drawings of a search: history, parallel coordinates, slices, and the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith_cli.formats import number
from tunesmith_cli.report.charts import axis_text, drawing, rows_beside, ticks_below
from tunesmith_cli.report.svg import Markup, Scale, element, joined, scale_over

_LEFT: Final = 62.0
_RIGHT: Final = 624.0
_TOP: Final = 18.0
_BOTTOM: Final = 260.0
_SLICE: Final = 460.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A trial as a dot: `role` is tuned, compressed (from memory), base (ended early) or best."""

    x: float
    y: float
    role: str
    said: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter, where each trial lies on it from 0 to 1, and the words at both of its ends."""

    label: str
    low: str
    high: str


def history_chart(marks: Sequence[Mark], best_so_far: Sequence[tuple[float, float]]) -> Markup:
    """Values by the number of the trial, and the best so far as a line of steps."""
    x = scale_over((mark.x for mark in marks), start=_LEFT, end=_RIGHT, margin=0.03)
    y = scale_over((mark.y for mark in marks), start=_BOTTOM, end=_TOP)
    corners = list[str]()
    for place, (trial, value) in enumerate(best_so_far):
        if place:
            corners.append(f"{x(trial):.1f},{y(best_so_far[place - 1][1]):.1f}")
        corners.append(f"{x(trial):.1f},{y(value):.1f}")
    said = f"{len(marks)} trials; the best so far from {number(best_so_far[0][1])}"
    return drawing(
        292.0,
        ("Value of each trial", f"{said} to {number(best_so_far[-1][1])}"),
        rows_beside(y, ticks=y.ticks(num=4)),
        *(axis_text(number(t), x=x(t), y=284.0) for t in x.ticks(num=6) if t.is_integer()),
        element("polyline", points=" ".join(corners), class_="line tuned"),
        *(_dot(mark, x=x, y=y) for mark in marks),
    )


def scatter_chart(
    title: str, marks: Sequence[Mark], *, front: Sequence[tuple[float, float]] = ()
) -> Markup:
    """Two measures of each trial; those that no other beats in both are joined."""
    x = scale_over((mark.x for mark in marks), start=_LEFT, end=_RIGHT)
    y = scale_over((mark.y for mark in marks), start=_BOTTOM, end=_TOP)
    way = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in front)
    return drawing(
        292.0,
        (title, "; ".join(mark.said for mark in marks[:20])),
        rows_beside(y, ticks=y.ticks(num=4)),
        ticks_below(x, top=_TOP, bottom=265.0),
        element("polyline", points=way, class_="line tuned") if front else Markup(""),
        *(_dot(mark, x=x, y=y) for mark in marks),
    )


def slice_chart(axis: Axis, marks: Sequence[Mark]) -> Markup:
    """Values over one parameter, whose places go from 0 to 1."""
    x = Scale(low=-0.04, high=1.04, start=_LEFT, end=_SLICE - 16.0)
    y = scale_over((mark.y for mark in marks), start=180.0, end=_TOP)
    return drawing(
        220.0,
        (f"Value by {axis.label}", f"from {axis.low} to {axis.high}"),
        joined(
            *(
                joined(
                    element("line", x1=_LEFT, x2=_SLICE - 16, y1=y(t), y2=y(t), class_="grid"),
                    axis_text(number(t), x=_LEFT - 8, y=y(t) + 4, anchor="end"),
                )
                for t in y.ticks(num=3)
            )
        ),
        axis_text(axis.low, x=x(0.0), y=208.0, anchor="start"),
        axis_text(axis.high, x=x(1.0), y=208.0, anchor="end"),
        *(_dot(mark, x=x, y=y) for mark in marks),
        width=_SLICE,
    )


def parallel_chart(
    axes: Sequence[Axis], ways: Sequence[tuple[str, Sequence[float | None]]]
) -> Markup:
    """A line for each trial through its place on each axis; the roles of the best come last."""
    step = (_RIGHT - 40.0 - _LEFT) / max(len(axes) - 1, 1)
    columns = [_LEFT + step * place for place in range(len(axes))]
    y = Scale(low=0.0, high=1.0, start=236.0, end=58.0)
    return drawing(
        268.0,
        ("Settings of the trials", ", ".join(axis.label for axis in axes)),
        *(
            joined(
                element("line", x1=x, x2=x, y1=58.0, y2=236.0, class_="grid"),
                # Every second label is lower, or long ones would lie on each other.
                axis_text(axis.label, x=x, y=14.0 if place % 2 else 30.0),
                axis_text(axis.high, x=x, y=48.0),
                axis_text(axis.low, x=x, y=256.0),
            )
            for place, (x, axis) in enumerate(zip(columns, axes, strict=True))
        ),
        *(
            element(
                "polyline",
                points=" ".join(
                    f"{x:.1f},{y(place):.1f}"
                    for x, place in zip(columns, places, strict=True)
                    if place is not None
                ),
                class_=f"line {role}",
            )
            for role, places in ways
        ),
    )


def _dot(mark: Mark, *, x: Scale, y: Scale) -> Markup:
    is_best = mark.role == "best"
    return element(
        "circle",
        element("title", mark.said),
        cx=x(mark.x),
        cy=y(mark.y),
        r=6.0 if is_best else 3.5,
        class_="dot tuned best" if is_best else f"dot {mark.role}",
    )
