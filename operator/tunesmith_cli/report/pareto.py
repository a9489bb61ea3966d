"""Size against loss of all that a job tried to become smaller: which of them nothing beats."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_cli.formats import number, size
from tunesmith_cli.report.charts import axis_text, drawing, rows_beside, ticks_below
from tunesmith_cli.report.svg import Markup, element, joined, scale_over

_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 600.0, 18.0, 260.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model: bytes, and nats per held-out target token; `ships` of the one that was published."""

    label: str
    size_bytes: int
    loss: float
    ships: bool = False


def undominated(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of which no other is as small and as good, and smaller or better; smallest first."""
    front: list[Candidate] = []
    for each in sorted(candidates, key=lambda one: (one.size_bytes, one.loss)):
        if not front or each.loss < front[-1].loss:
            front.append(each)
    return front


def pareto_chart(candidates: Sequence[Candidate]) -> Markup:
    """Size to the right, loss upwards, and a line through those that nothing beats."""
    sizes = [each.size_bytes / _MIB for each in candidates]
    x = scale_over(sizes, start=_LEFT, end=_RIGHT)
    y = scale_over((each.loss for each in candidates), start=_BOTTOM, end=_TOP)
    front = undominated(candidates)
    way = " ".join(f"{x(each.size_bytes / _MIB):.1f},{y(each.loss):.1f}" for each in front)
    return drawing(
        292.0,
        ("Held-out loss against size in MiB", "; ".join(map(_text, candidates))),
        rows_beside(y, ticks=y.ticks(num=4)),
        ticks_below(x, top=_TOP, bottom=265.0),
        element("polyline", points=way, class_="line tuned"),
        *(
            joined(
                element(
                    "circle",
                    element("title", _text(each)),
                    cx=x(each.size_bytes / _MIB),
                    cy=y(each.loss),
                    r=6.0 if each.ships else 3.5,
                    class_="dot tuned best" if each.ships else "dot tuned",
                ),
                axis_text(
                    each.label,
                    x=x(each.size_bytes / _MIB) + 9,
                    y=y(each.loss) - 7,
                    anchor="start",
                ),
            )
            for each in candidates
        ),
    )


def _text(each: Candidate) -> str:
    shipped = ", ships" if each.ships else ""
    return f"{each.label}: {size(each.size_bytes)}, loss {number(each.loss)}{shipped}"
