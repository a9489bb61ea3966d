"""The data in the report: the data card, the lengths of its rows, and one row as it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from tunesmith_cli.formats import number
from tunesmith_cli.report.charts import percentile_chart
from tunesmith_cli.report.evidence import Evidence
from tunesmith_cli.report.pieces import Chart, Piece, Table, flattened, marked

_PERCENTILES = ("min", "p50", "p90", "p99", "max")
_SHOWN_ELSEWHERE = {"sample", "samples", "sampleRows", "warnings"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is known about the data; empty before prepare is done."""

    card: Table | None = None
    lengths: Chart | None = None
    sample: list[Piece] = field(default_factory=list)


def tell_dataset(evidence: Evidence) -> Dataset:
    """The data as prepare found it."""
    sample = evidence.prepare.sample
    return Dataset(
        card=_card(evidence.card),
        lengths=_lengths(_percentiles(evidence.card)),
        sample=marked(sample.text, sample.trained) if sample else [],
    )


def _card(card: JsonValue) -> Table | None:
    if not isinstance(card, dict):
        return None
    told: JsonValue = {key: each for key, each in card.items() if key not in _SHOWN_ELSEWHERE}
    rows = [row for row in flattened(told) if row[1]]
    return Table(caption="Data card", head=("field", "value"), rows=rows) if rows else None


def _percentiles(card: JsonValue) -> Mapping[str, float]:
    """The first statistics inside the card that have a median and a greatest value."""
    if not isinstance(card, dict):
        return {}
    if {"p50", "max"} <= card.keys():
        return {key: each for key, each in card.items() if isinstance(each, int | float)}
    return next(filter(None, map(_percentiles, card.values())), {})


def _lengths(found: Mapping[str, float]) -> Chart | None:
    marks = [(name, found[name]) for name in _PERCENTILES if name in found]
    if not marks:
        return None
    drawing = percentile_chart(marks, title="Length of the rows in tokens")
    said = ", ".join(f"{name} {number(value)}" for name, value in marks)
    return Chart(drawing=drawing, caption=f"Length of a row in tokens: {said}.")
