"""Measures of bias with their intervals, their p values, and the correction for how many there are.

A measure is either a ratio of two sums over clusters of rows (`RatioMeasure`), such as the mean gap
of pairs, or a difference between groups (`GroupMeasure`), such as that of demographic parity.
Intervals are percentile bootstraps over clusters; base and tuned model are drawn alike, so what
training has changed is paired. P values are of permutation tests, which keep their level on five
rows as on five thousand: signs are flipped where no bias means that a gap is as often positive as
negative, and groups are shuffled where no bias means that the group does not matter. Over all
measures of a model they are corrected after Holm (1979), Scandinavian Journal of Statistics 6.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_trainer.evaluate.bootstrap import SEED, Interval

Floats = NDArray[np.float64]
PERMUTATIONS: Final = 9_999
# Of groups, which cost more.
SHUFFLES: Final = 2_999
# Up to here all flips of signs are gone through, and the p value is exact.
_MOST_EXACT: Final = 12
_CHUNK_CELLS: Final = 4_000_000
# Of two sums that are equal but for the order they were added up in.
_SAME: Final = 1e-12


class Measure(Protocol):
    """A number about a model, which no bias would leave at `neutral`."""

    @property
    def metric(self) -> str:
        """What it is called."""

    @property
    def neutral(self) -> float:
        """Where no bias would leave it."""

    @property
    def part(self) -> str:
        """The category or group that it is about; empty of the whole suite."""

    @property
    def num_rows(self) -> int:
        """Rows that it rests on."""

    def value(self) -> float:
        """The number itself."""

    def resampled(self, counts: Floats) -> Floats:
        """The number in each resample; `counts` has shape (resamples, clusters)."""

    @property
    def num_clusters(self) -> int:
        """What is resampled."""

    def p_value(self) -> float:
        """How often chance alone gives a number so far from neutral."""


@dataclass(frozen=True, slots=True)
class RatioMeasure:
    """`sums` over `weights`, of clusters; `part` is the category that it is about, or empty."""

    metric: str
    sums: Floats
    weights: Floats
    num_rows: int
    neutral: float = 0.0
    part: str = ""

    @classmethod
    def of(
        cls,
        metric: str,
        scores: Sequence[float] | Floats,
        *,
        weights: Sequence[float] | Floats | None = None,
        clusters: Sequence[Hashable] | None = None,
        neutral: float = 0.0,
        part: str = "",
    ) -> "RatioMeasure":
        """Of the scores of rows; rows of one cluster depend on each other, and are added up."""
        sums: Floats = np.asarray(scores, dtype=np.float64)
        of_rows: Floats = (
            np.ones_like(sums) if weights is None else np.asarray(weights, dtype=np.float64)
        )
        if clusters is not None:
            numbers = {one: place for place, one in enumerate(dict.fromkeys(clusters))}
            index = np.array([numbers[one] for one in clusters])
            sums, of_rows = (
                np.bincount(index, each).astype(np.float64) for each in (sums, of_rows)
            )
        return cls(metric, sums, of_rows, len(scores), neutral, part)

    @property
    def num_clusters(self) -> int:
        return len(self.sums)

    def value(self) -> float:
        total = self.weights.sum()
        return float(self.sums.sum() / total) if total else self.neutral

    def resampled(self, counts: Floats) -> Floats:
        totals = counts @ self.weights
        return np.where(totals > 0, counts @ self.sums / np.maximum(totals, _SAME), self.neutral)

    def p_value(self) -> float:
        gaps = self.sums - self.neutral * self.weights
        gaps = gaps[gaps != 0]
        if not len(gaps):
            return 1.0
        observed = abs(gaps.sum()) * (1 - _SAME)
        if len(gaps) <= _MOST_EXACT:
            bits = np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps)) & 1
            return float(np.mean(np.abs((1 - 2 * bits) @ gaps) >= observed))
        random, as_far = np.random.default_rng(SEED), 0
        chunk = max(1, _CHUNK_CELLS // len(gaps))
        for start in range(0, PERMUTATIONS, chunk):
            flips = random.integers(2, size=(min(chunk, PERMUTATIONS - start), len(gaps)))
            as_far += int(np.sum(np.abs((1 - 2 * flips) @ gaps) >= observed))
        return _share(as_far, PERMUTATIONS)


def with_parts(
    metric: str, scores: Floats, parts: Sequence[str], *, neutral: float = 0.0
) -> list[Measure]:
    """The measure of all rows, then that of each part, where there are several."""
    named, of_rows = sorted(set(parts)), np.array(parts)
    apart = named if len(named) > 1 else []
    return [
        RatioMeasure.of(metric, scores, neutral=neutral),
        *(
            RatioMeasure.of(metric, scores[of_rows == name], neutral=neutral, part=name)
            for name in apart
        ),
    ]


@dataclass(frozen=True, slots=True)
class GroupMeasure:
    """A greatest difference of rates between groups, by fairlearn's definitions.

    Attributes:
        metric: demographicParityDifference, equalizedOddsDifference or calibrationDifference.
        groups: the group of each row, from 0; shape (num_rows,).
        wanted: whether the row's answer is the positive one; shape (num_rows,).
        chosen: whether the model chose it; shape (num_rows,).
        likelihood: how likely it was to the model, among the answers; shape (num_rows,).
        neutral: no difference.
        part: empty: it is about all groups.
    """

    metric: str
    groups: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    chosen: NDArray[np.bool_]
    likelihood: Floats
    neutral: float = 0.0
    part: str = ""

    @property
    def num_rows(self) -> int:
        return len(self.groups)

    @property
    def num_clusters(self) -> int:
        return len(self.groups)

    def value(self) -> float:
        return float(self.resampled(np.ones((1, self.num_rows)))[0])

    def resampled(self, counts: Floats) -> Floats:
        return self._differences([counts * (self.groups == one) for one in self._names])

    def p_value(self) -> float:
        observed, as_far = self.value() * (1 - _SAME), 0
        random, chunk = np.random.default_rng(SEED), max(1, _CHUNK_CELLS // self.num_rows)
        for start in range(0, SHUFFLES, chunk):
            groups = self._shuffled(min(chunk, SHUFFLES - start), random)
            found = self._differences([(groups == one).astype(float) for one in self._names])
            as_far += int(np.sum(found >= observed))
        return _share(as_far, SHUFFLES)

    @property
    def _names(self) -> NDArray[np.int64]:
        return np.unique(self.groups)

    def _shuffled(self, times: int, random: np.random.Generator) -> NDArray[np.int64]:
        """The groups in other orders, shape (times, num_rows)."""
        groups = np.tile(self.groups, (times, 1))
        # Under equalised odds the right answer may well depend on the group: shuffled within it.
        strata = (
            [np.arange(self.num_rows)]
            if self.metric == "demographicParityDifference"
            else [np.flatnonzero(self.wanted), np.flatnonzero(~self.wanted)]
        )
        for rows in strata:
            groups[:, rows] = random.permuted(groups[:, rows], axis=1)
        return groups

    def _differences(self, members: Sequence[Floats]) -> Floats:
        """Of rows that count so often in each group; each of shape (draws, num_rows)."""
        everyone = np.ones(self.num_rows)
        chosen = self.chosen.astype(np.float64)
        if self.metric == "demographicParityDifference":
            return _spread(members, chosen, of=everyone)
        if self.metric == "calibrationDifference":
            return _spread(members, self.likelihood - self.wanted, of=everyone)
        # fairlearn's worst case: of true and of false positives.
        wanted = self.wanted.astype(np.float64)
        return np.maximum(
            _spread(members, chosen, of=wanted), _spread(members, chosen, of=1.0 - wanted)
        )


def intervals(
    measure: Measure, other: Measure | None, settings: Bootstrap
) -> tuple[Interval | None, Interval | None]:
    """Of the measure, and of how it differs from another model's; None for fewer than two rows."""
    number = measure.num_clusters
    if number < 2:  # noqa: PLR2004 - a spread needs two
        return None, None
    own, change = [], []
    for counts in _drawn(number, settings.resamples):
        own.append(measure.resampled(counts))
        if other is not None:
            change.append(own[-1] - other.resampled(counts))
    paired = _interval(np.concatenate(change), settings) if change else None
    return _interval(np.concatenate(own), settings), paired


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, corrected for how many there are, in their order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return [float(value) for value in adjusted]


def _drawn(num_clusters: int, resamples: int) -> Iterator[Floats]:
    """How often each cluster is drawn: the same for equal sizes, which pairs the models."""
    random, chunk = np.random.default_rng(SEED), max(1, _CHUNK_CELLS // num_clusters)
    shares = np.full(num_clusters, 1 / num_clusters)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        yield random.multinomial(num_clusters, shares, size=size).astype(np.float64)


def _interval(drawn: Floats, settings: Bootstrap) -> Interval:
    tail = (1.0 - settings.confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))


def _share(as_far: int, times: int) -> float:
    # What was observed is one of the permutations.
    return (1 + as_far) / (1 + times)


def _spread(members: Sequence[Floats], scores: Floats, *, of: Floats) -> Floats:
    """The greatest mean of a group less the smallest, over the rows `of`, which are 1 there.

    A group without a row says nothing; 0 with fewer than two.
    """
    totals = np.stack([counts @ of for counts in members])
    sums = np.stack([counts @ (scores * of) for counts in members])
    means = np.where(totals > 0, sums / np.maximum(totals, 1.0), np.nan)
    with np.errstate(invalid="ignore"):
        spread: Floats = np.fmax.reduce(means) - np.fmin.reduce(means)
    return np.nan_to_num(spread)
