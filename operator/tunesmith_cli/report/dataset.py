"""The data in the report: the data card, the lengths of its rows, and one row as it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from tunesmith_cli.formats import number
from tunesmith_cli.report.artifacts import LengthHistogram, as_record
from tunesmith_cli.report.components import Chart, Piece, Table, flattened, marked
from tunesmith_cli.report.histogram import histogram
from tunesmith_cli.report.job_data import Evidence

_PERCENTILES = {"min": "the shortest {}", "p50": "half up to {}", "p90": "nine in ten up to {}",
                "p99": "99 in 100 up to {}", "max": "the longest {}"}  # fmt: skip
_SHOWN_ELSEWHERE = {"lengthHistogram", "sample", "samples", "sampleRows", "warnings"}


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
        lengths=_lengths(evidence.card),
        sample=marked(sample.text, sample.trained, markers=evidence.prepare.markers)
        if sample
        else [],
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


def _lengths(card: JsonValue) -> Chart | None:
    found = (
        as_record(card.get("lengthHistogram"), LengthHistogram) if isinstance(card, dict) else None
    )
    if found is None:
        return None
    lengths = _percentiles(card)
    said = [
        text.format(number(lengths[name])) for name, text in _PERCENTILES.items() if name in lengths
    ]
    caption = ": ".join(filter(None, ("Rows by their length in tokens", ", ".join(said))))
    return Chart(drawing=histogram(found), caption=f"{caption}.")
