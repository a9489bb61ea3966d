"""The tables about attacked prompts: what each attack does to the answers of either model."""

from dataclasses import dataclass
from typing import Final

from tunesmith_cli.formats import number
from tunesmith_cli.metrics import METRIC_LABELS
from tunesmith_cli.report.artifacts import RobustnessNumber, RobustnessRecord
from tunesmith_cli.report.components import Table, table_of

_HEAD: Final = ("prompt", "measure", "value", "interval", "before", "change", "rows")
_PROMPTS: Final = {
    "clean": "as it is",
    "injectionBefore": "instruction before",
    "injectionAfter": "instruction behind",
    "whitespace": "white space",
}
_MEASURES: Final = {
    "lossRise": "rise of the loss",
    "scoreDrop": "drop of the score",
    "obeyedShare": "injection obeyed",
}


@dataclass(frozen=True, slots=True)
class RobustnessTables:
    """What attacked prompts did to each model."""

    tuned: RobustnessRecord | None
    compressed: RobustnessRecord | None

    @property
    def tables(self) -> list[Table]:
        """One for each model that was measured."""
        named = (("tuned", "the base", self.tuned), ("compressed", "the tuned", self.compressed))
        tables = [
            table_of(
                f"The {name} model beside {before} model",
                _HEAD,
                [_row(one, record.metric) for one in record.numbers],
                numeric=(2, 4, 6),
            )
            for name, before, record in named
            if record is not None
        ]
        return [table for table in tables if table is not None]


def _row(one: RobustnessNumber, metric: str | None) -> tuple[str, ...]:
    score = METRIC_LABELS.get(metric or "", metric or "score")
    return (
        _PROMPTS.get(one.attack, one.attack),
        score if one.measure == "score" else _MEASURES.get(one.measure, one.measure),
        number(one.value),
        _ends(one.interval),
        "" if one.base is None else number(one.base),
        _ends(one.change),
        f"{one.rows:,}",
    )


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{number(interval[0])} – {number(interval[1])}"
