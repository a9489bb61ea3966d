"""How many rows have which length, as bars."""

from tunesmith_cli.formats import counted, number
from tunesmith_cli.report.artifacts import LengthHistogram
from tunesmith_cli.report.charts import LEFT, RIGHT, drawing, ticks_below
from tunesmith_cli.report.scales import Scale
from tunesmith_cli.report.svg import Markup, element, joined

_TOP, _BOTTOM = 14.0, 142.0
_GAP = 1.5


def histogram(found: LengthHistogram) -> Markup:
    """Bars side by side, the number of rows upwards."""
    end = found.start + found.width * len(found.counts)
    x = Scale(low=found.start, high=end, start=LEFT, end=RIGHT)
    y = Scale(low=0.0, high=max(*found.counts, 1), start=_BOTTOM, end=_TOP)
    return drawing(
        _BOTTOM + 28.0,
        ("Rows by their length in tokens", _said(found)),
        _rows_beside(y),
        ticks_below(x, top=_BOTTOM, bottom=_BOTTOM),
        *(_bar(found, index, x=x, y=y) for index in range(len(found.counts))),
    )


def _bar(found: LengthHistogram, index: int, *, x: Scale, y: Scale) -> Markup:
    first = found.start + index * found.width
    top, left = y(found.counts[index]), x(first) + _GAP / 2
    return element(
        "rect",
        element("title", _bin_said(found, index)),
        x=left,
        y=top,
        width=max(x(first + found.width) - left - _GAP / 2, 0.5),
        height=_BOTTOM - top,
        class_="bar",
    )


def _rows_beside(y: Scale) -> Markup:
    return joined(
        *(
            joined(
                element("line", x1=LEFT, x2=RIGHT, y1=y(tick), y2=y(tick), class_="grid"),
                element(
                    "text", number(tick), x=LEFT - 8, y=y(tick) + 4, class_="axis",
                    text_anchor="end",
                ),
            )
            for tick in y.ticks(num=3)
            if tick.is_integer()
        )
    )  # fmt: skip


def _said(found: LengthHistogram) -> str:
    filled = [index for index, count in enumerate(found.counts) if count]
    return "; ".join(_bin_said(found, index) for index in filled)


def _bin_said(found: LengthHistogram, index: int) -> str:
    first = found.start + index * found.width
    last = first + found.width - 1
    lengths = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    return f"{lengths} tokens: {counted(found.counts[index], 'row')}"
