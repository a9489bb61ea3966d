"""The drawings of the report: scales, labels, and how much of a long curve is drawn."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_cli.report.charts import (
    Interval,
    Line,
    Point,
    Span,
    interval_chart,
    loss_chart,
    tick_labels,
    time_line,
)
from tunesmith_cli.report.svg import Markup, Scale, element, scale_over

BEGIN = datetime(2026, 11, 24, 11, 5, tzinfo=UTC)


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20))
def test_every_value_lies_on_its_scale_and_ticks_are_few_and_in_order(values: list[float]) -> None:
    scale = scale_over(values, start=10.0, end=110.0)

    ticks = scale.ticks(num=5)

    assert all(10.0 <= scale(value) <= 110.0 for value in values)
    assert len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    assert all(9.9 <= scale(tick) <= 110.1 for tick in ticks)


def test_ticks_are_round() -> None:
    assert Scale(low=1.9, high=3.8, start=0, end=1).ticks(num=4) == [2.0, 2.5, 3.0, 3.5]


def test_numbers_beside_an_axis_can_be_told_apart() -> None:
    assert tick_labels([2.0, 2.5, 3.0]) == ["2", "2.5", "3"]
    assert tick_labels([3.5925, 3.593, 3.5935]) == ["3.5925", "3.5930", "3.5935"]
    assert tick_labels([120_000.25, 120_000.5]) == ["120,000.25", "120,000.50"]


def test_a_loss_that_hardly_moves_looks_so() -> None:
    points = [Point(0, 3.592), Point(8, 3.594)]

    drawn = loss_chart([Line("general text", "general", points)], best=None)

    first, last = (float(y) for y in re.findall(r'cy="([\d.]+)"', str(drawn)))
    assert abs(first - last) < 10


@pytest.mark.parametrize("name", ["train", "counterfact"])
def test_a_label_of_any_length_fits_beside_its_bar_on_a_phone(name: str) -> None:
    """There a character is about 13 units wide in a time line, and 10 in an interval chart."""
    span = Span(f"{name} 1", role="done", start=BEGIN, end=BEGIN + timedelta(seconds=9))
    interval = Interval(label=name, role="base", value=0.5)

    assert label_end(time_line([span])) >= 13 * len(span.label)
    assert label_end(interval_chart("planted", [interval])) >= 10 * len(name)


def label_end(chart: Markup) -> float:
    (end,) = re.findall(r'<text x="([\d.]+)"[^>]*class="label" text-anchor="end"', str(chart))
    return float(end)


def test_a_long_curve_is_drawn_with_as_many_points_as_can_be_seen() -> None:
    curve = [Point(step, loss=2.0 + 1 / (step + 1)) for step in range(100_000)]

    (points,) = re.findall(
        r'points="([^"]+)" class="line train"',
        str(loss_chart([Line("training loss", "train", curve)], best=None)),
    )

    assert 150 <= len(points.split()) <= 300


def test_a_stage_that_took_no_time_has_a_bar() -> None:
    chart = str(time_line([Span("prepare 1", role="done", start=BEGIN, end=BEGIN)]))

    assert 'width="2.0"' in chart
    assert "nan" not in chart


def test_text_is_escaped_in_elements_and_in_attributes() -> None:
    made = str(element("text", "<b> src=x", aria_label='"><script src=x>'))

    assert made == (
        '<text aria-label="&quot;&gt;&lt;script src&#61;x&gt;">&lt;b&gt; src&#61;x</text>'
    )
