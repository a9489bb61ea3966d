"""Whether an attribution is to be believed: deletion and insertion beside random orders, and seeds.

Units are taken out in the order of their scores (deletion), or put in from nothing (insertion). The
area is the mean over the parts of the way: how much likelihood is lost, or won. A faithful order
loses and wins sooner than a random one does (comprehensiveness and sufficiency, DeYoung et al.
2020). No earlier step of the job knows the order, so that nothing is judged by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tunesmith_trainer.explain.game import Game

Values = NDArray[np.float64]

# Parts of the way at which the likelihood is looked at; all of them where there are fewer units.
_MOST_POINTS: Final = 10
# Random orders; each counts from both ends.
_RANDOM_PAIRS: Final = 4


@dataclass(frozen=True, slots=True)
class Area:
    """Nats per answer token: of the order, of random ones, and the part of those it beats."""

    value: float
    random: float
    beats: float

    @property
    def gain(self) -> float:
        """How much more than a random order."""
        return self.value - self.random


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Both areas of one attribution."""

    deletion: Area
    insertion: Area


class RandomOrders:
    """The areas of random orders of a game's units, which all its attributions are held to."""

    def __init__(self, game: Game, *, seed: int) -> None:
        generator = np.random.default_rng(seed)
        orders = [generator.permutation(game.num_units) for _ in range(_RANDOM_PAIRS)]
        # What one takes out first, the other takes out last: both need the same coalitions.
        orders += [order[::-1] for order in orders]
        self._game = game
        self._areas = [areas(game, order) for order in orders]

    def judge(self, scores: Values) -> Faithfulness:
        """The areas of the order of these scores, the highest first."""
        deletion, insertion = areas(self._game, np.argsort(-scores, kind="stable"))
        return Faithfulness(
            _area(deletion, [other[0] for other in self._areas]),
            _area(insertion, [other[1] for other in self._areas]),
        )


def areas(game: Game, order: NDArray[np.int64]) -> tuple[float, float]:
    """The areas of deletion and of insertion."""
    num = game.num_units
    points = np.unique(np.linspace(1, num, min(num, _MOST_POINTS)).round().astype(int))
    inserted = np.zeros((len(points), num), np.bool_)
    for row, point in enumerate(points):
        inserted[row, order[:point]] = True
    values = game.values(np.concatenate([~inserted, inserted]))
    without, with_ = np.split(values, 2)
    whole, nothing = game.value(is_whole=True), game.value(is_whole=False)
    return float(np.mean(whole - without)), float(np.mean(with_ - nothing))


def rank_stability(runs: Sequence[Values]) -> float | None:
    """Spearman's correlation of ranks, the mean over pairs of runs; None where it is undefined."""
    if len(runs) < 2 or len(runs[0]) < 2:  # noqa: PLR2004 - a pair
        return None
    pairs = [
        float(spearmanr(one, other).statistic)
        for one, other in combinations(runs, 2)
        if np.ptp(one) > 0 and np.ptp(other) > 0
    ]
    return float(np.mean(pairs)) if pairs else None


def _area(value: float, random: Sequence[float]) -> Area:
    return Area(value, float(np.mean(random)), float(np.mean([value > other for other in random])))
