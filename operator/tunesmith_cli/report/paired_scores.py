"""The difference of two models over the rows that both were measured on, with its interval."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_cli.formats import number
from tunesmith_cli.report.artifacts import RowScores
from tunesmith_trainer.evaluate.bootstrap import bootstrap

_RESAMPLES: Final = 2000
_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """Second less first, over the rows that both jobs were measured on.

    `low` and `high` are a paired bootstrap interval; None of fewer than two rows.
    """

    value: float
    low: float | None
    high: float | None
    num_rows: int

    @property
    def interval(self) -> str:
        """`−0.02 to +0.1`; empty of too few rows."""
        if self.low is None or self.high is None:
            return ""
        return f"{signed(self.low)} to {signed(self.high)}"


def paired_difference(first: RowScores, second: RowScores) -> Difference | None:
    """The difference of the tuned models' ratios over the rows that both have; None without any.

    Rows are resampled, each with both of its scores, so that what is hard for either model widens
    nothing. A row that occurs several times counts as often as both have it.
    """
    places = _places(second)
    pairs = [(index, places[row].pop(0)) for index, row in enumerate(first.rows) if places.get(row)]
    if not pairs:
        return None
    of_first, of_second = (list(side) for side in zip(*pairs, strict=True))
    weights = np.array(first.weights, dtype=np.float64)[of_first]
    gaps = (
        np.array(second.tuned, dtype=np.float64)[of_second]
        - np.array(first.tuned, dtype=np.float64)[of_first]
    )
    # Equal weights on both sides: the difference of the ratios is the ratio of the differences.
    interval = bootstrap(gaps, weights, resamples=_RESAMPLES, confidence=_CONFIDENCE)
    return Difference(
        value=float(gaps.sum() / weights.sum()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num_rows=len(pairs),
    )


def _places(scores: RowScores) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for index, row in enumerate(scores.rows):
        places.setdefault(row, []).append(index)
    return places


def signed(value: float) -> str:
    """`+0.012`, `−1.39`: a minus sign is as wide as the plus, and columns align."""
    rounded = number(abs(float(f"{value:.3g}")))
    return rounded if rounded == "0" else f"{'+' if value > 0 else '−'}{rounded}"
