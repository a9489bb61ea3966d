"""The data in the report: the data card, the lengths of its rows, and one row as it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pydantic import JsonValue

from tunesmith_cli.formats import number
from tunesmith_cli.report.artifacts import LengthHistogram, as_record
from tunesmith_cli.report.charts import histogram
from tunesmith_cli.report.components import Chart, Table, json_table
from tunesmith_cli.report.conversation import Stretch, stretches_of
from tunesmith_cli.report.job_data import JobData

_PERCENTILES: Final = {
    "min": "the shortest {}",
    "p50": "half up to {}",
    "p90": "nine in ten up to {}",
    "p99": "99 in 100 up to {}",
    "max": "the longest {}",
}
_SHOWN_ELSEWHERE: Final = frozenset({"lengthHistogram", "sampleRows", "warnings"})


@dataclass(frozen=True)
class DatasetSection:
    """What is known about the data; each part is empty before prepare is done."""

    job: JobData

    @cached_property
    def card(self) -> Table | None:
        """The data card, but for what is drawn or shown elsewhere."""
        told = {key: value for key, value in self._card.items() if key not in _SHOWN_ELSEWHERE}
        return json_table("Data card", told)

    @cached_property
    def lengths(self) -> Chart | None:
        """How long the rows are, in tokens."""
        lengths = as_record(self._card.get("lengthHistogram"), LengthHistogram)
        if lengths is None:
            return None
        values = _percentiles(self._card)
        said = [
            text.format(number(values[name]))
            for name, text in _PERCENTILES.items()
            if name in values
        ]
        caption = ": ".join(filter(None, ("Rows by their length in tokens", ", ".join(said))))
        return Chart(drawing=histogram(lengths), caption=f"{caption}.")

    @cached_property
    def sample(self) -> list[Stretch]:
        """One row, cut into what is trained and what is only read."""
        sample, markers = self.job.sample, self.job.prepare.markers
        return stretches_of(sample.text, sample.trained, markers=markers) if sample else []

    @property
    def _card(self) -> dict[str, JsonValue]:
        # An artifact may be of any shape.
        return self.job.card if isinstance(self.job.card, dict) else {}


def _percentiles(card: JsonValue) -> Mapping[str, float]:
    """The first statistics inside the card that have a median and a greatest value."""
    if not isinstance(card, dict):
        return {}
    if {"p50", "max"} <= card.keys():
        return {key: value for key, value in card.items() if isinstance(value, int | float)}
    return next(filter(None, map(_percentiles, card.values())), {})
