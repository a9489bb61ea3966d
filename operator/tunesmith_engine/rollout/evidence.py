"""The evidence on one metric: how each window's samples speak for and against the candidate.

Every metric becomes bounded values first: a share is a mean of zeros and ones, a latency is whether
it lies above a threshold that stable's earlier samples set, a quality loss is cut off at its bound.
`eprocess.py` bets on them; `judge.py` puts the metrics together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log
from typing import Final, Literal

import numpy as np

from tunesmith_api.modeldeployment.limits import METRICS, Limits, Metric, MetricKind
from tunesmith_engine.rollout.columns import Counted
from tunesmith_engine.rollout.eprocess import (
    BETS,
    Flags,
    Floats,
    Indices,
    Units,
    one_sample_log_e,
    two_sample_log_e,
)

Sign = Literal[1, -1]
Scale = Callable[[float], float]
# The guess of a share that begins a rollout; services are held to about one failure in a hundred.
_PRIOR_RATE: Final = 0.01
# The threshold is set anew when stable has a quarter more samples than at the last time.
_REFRESH: Final = 1.25
# Halvings of an interval's search: 1/4096 of the range, far below any minimum effect.
_HALVINGS: Final = 12
# The ratios among which an interval is looked for: a thousandth to a thousandfold.
_LOG_RATIOS: Final = 7.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would settle a metric: which verdict is nearer, and how many more requests it takes.

    An estimate from the effect so far, over both arms at the split so far; None: not known yet.
    """

    towards: Literal["promote", "rollback"]
    more_requests: int | None


class MetricEvidence:
    """The samples of one metric, and every test of them."""

    def __init__(self, counted: Counted, limits: Limits, metric: Metric) -> None:
        self.metric = metric
        self.tolerated = limits.metrics[metric].tolerated
        self.minimum_effect = limits.minimum_effect(metric)
        self.alpha = limits.alpha
        self._kind: MetricKind = METRICS[metric]
        self._bound = limits.metrics[metric].bound
        self._is_by_unit = limits.unit == "cluster"
        column = counted.fields[self._kind.field]
        is_paired = self._kind.compared == "mean"
        observed = ~np.isnan(column) & (counted.is_candidate | (not is_paired))
        self._values = column[observed]
        self._is_candidate = counted.is_candidate[observed]
        self._window = counted.window[observed]
        self._unit = counted.unit[observed]
        self._num_windows = counted.num_windows
        needed = (True,) if is_paired else (False, True)
        counts = np.stack([self._per_window(self._is_candidate == arm) for arm in needed])
        self._block_of_window, self._closing = _merge_windows(counts)
        # What arrived after the last closed block waits for the other arm.
        self._is_closed = self._block_of_window[self._window] >= 0
        self._threshold = self._thresholds() if self._kind.compared == "ratio" else None

    def harm_log_e(self) -> Floats:
        """Evidence, at the end of each window, against "the candidate is no worse"."""
        return self._log_e(self.tolerated, sign=1)

    def promotion_log_e(self) -> Floats:
        """Evidence, at the end of each window, against "it is worse by the minimum effect"."""
        return self._log_e(self.minimum_effect, sign=-1)

    def is_nearer_to_harm(self) -> Flags:
        """Whether the effect so far is at least half-way from tolerated to the minimum effect."""
        middle = (self.tolerated + self.minimum_effect) / 2
        excess: Flags = self._excess(middle) >= 0
        return excess

    def num_samples(self, window: int, *, candidate: bool) -> int:
        """How many requests of an arm have shown this metric by the end of a window."""
        return int(np.sum((self._window <= window) & (self._is_candidate == candidate)))

    def effect(self, window: int) -> float | None:
        """The effect as it was seen by the end of a window; None: nothing to compare yet."""
        seen = self._window <= window
        candidate = self._values[seen & self._is_candidate]
        stable = self._values[seen & ~self._is_candidate]
        if self._kind.compared == "mean":
            return (
                float(np.mean(np.clip(candidate, -self._bound, self._bound)))
                if len(candidate)
                else None
            )
        if not len(candidate) or not len(stable):
            return None
        if self._kind.compared == "rate":
            return float(np.mean(candidate) - np.mean(stable))
        upper, lower = (float(np.quantile(arm, self._kind.level)) for arm in (candidate, stable))
        if self._kind.direction == -1:
            upper, lower = lower, upper
        return upper / lower - 1 if lower > 0 else None

    def interval(self, window: int) -> tuple[float, float]:
        """Bounds of the effect that hold at all windows at once, but for a chance of alpha.

        They are the effects that neither one-sided test has refuted with alpha / 2: a confidence
        sequence, by the duality of Howard et al., "Time-uniform, nonparametric, nonasymptotic
        confidence sequences", Annals of Statistics 49 (2021). Of this metric by itself.
        """
        start = self.effect(window)
        if start is None:
            return -inf, inf
        to_scale, from_scale, largest = self._scale()
        return (
            from_scale(self._bound_of(window, to_scale(start), -largest, from_scale, sign=1)),
            from_scale(self._bound_of(window, to_scale(start), largest, from_scale, sign=-1)),
        )

    def outlook(self, window: int) -> Outlook:
        """What would settle the metric after a window."""
        if not len(self._closing):
            return Outlook("promote", None)
        closed = self._is_closed & (self._window <= window)
        excess = [
            float(self._excess(effect)[window]) for effect in (self.tolerated, self.minimum_effect)
        ]
        # How far the effect so far is from what either verdict has to refute.
        towards: Literal["promote", "rollback"] = (
            "rollback" if excess[0] > -excess[1] else "promote"
        )
        distance = max(excess[0], -excess[1])
        values = self._bounded(self.tolerated)[0][closed]
        if self._kind.compared == "mean":
            pairs, variance = float(len(values)), float(np.var(values)) if len(values) else 0.0
        else:
            num_candidate = float(np.sum(self._is_candidate[closed]))
            num_stable = len(values) - num_candidate
            pairs = num_candidate * num_stable / max(1.0, num_candidate + num_stable)
            mean = float(np.mean(values)) if len(values) else 0.0
            variance = mean * (1 - mean)
        if not pairs or distance <= 0:
            return Outlook(towards, None)
        # The best fixed bet gains distance^2 / (2 variance) nats with each pair, and at most what
        # a stake of the whole capital gains; mixing bets costs log J once.
        gain = min(distance**2 / (2 * max(variance, 1e-4)), distance)
        needed = (log(1 / self.alpha) + log(len(BETS))) / gain
        # At least a tenth more: the estimate is no promise, and a test that is late goes on.
        more = max(needed / pairs - 1, 0.1) * len(values)
        return Outlook(towards, int(np.ceil(more)))

    def _log_e(self, effect: float, *, sign: Sign) -> Floats:
        """The log capital at the end of each window against the null at `effect`.

        `sign` 1: against "at most this effect"; -1: against "at least".
        """
        if not len(self._closing):
            return np.zeros(self._num_windows)
        units, null = self._units(effect)
        # For answers that get shorter, a larger effect is a smaller candidate.
        turned: Sign = 1 if sign == self._kind.direction else -1
        if self._kind.compared == "mean":
            of_block = one_sample_log_e(units, mean=null, sign=turned)
        else:
            prior = _PRIOR_RATE if self._threshold is None else 1 - self._kind.level
            of_block = two_sample_log_e(units, shift=null, sign=turned, prior_mean=prior)
        return self._at_windows(np.concatenate([np.zeros(self._first_block), of_block]))

    def _excess(self, effect: float) -> Floats:
        """By how much the mean so far is on the side of harm of the null at `effect`."""
        if not len(self._closing):
            return np.full(self._num_windows, -inf)
        units, null = self._units(effect)
        candidate = _running_mean(units, units.is_candidate)
        is_paired = self._kind.compared == "mean"
        stable = 0.0 if is_paired else _running_mean(units, ~units.is_candidate)
        excess = self._kind.direction * (candidate - stable - null)
        return self._at_windows(
            np.concatenate([np.full(self._first_block, -inf), excess]), empty=-inf
        )

    @property
    def _first_block(self) -> int:
        """The first block that is bet on: before the second one there is no threshold."""
        return 0 if self._threshold is None else 1

    def _bounded(self, effect: float) -> tuple[Floats, float]:
        """The values in [0, 1], and what their means differ by (or are) under `effect`."""
        if self._kind.compared == "rate":
            return self._values, effect
        if self._kind.compared == "mean":
            scaled = (np.clip(self._values / self._bound, -1, 1) + 1) / 2
            return scaled, (effect / self._bound + 1) / 2
        # The candidate's latencies are shrunk by the effect. If it is exactly that much slower,
        # as many of them as of stable's then lie above any threshold, and a heavy tail weighs no
        # more than any other value. The threshold is stable's quantile, so that it is the effect
        # at that level which is tested; Howard and Ramdas, "Sequential estimation of quantiles
        # with applications to A/B testing and best-arm identification", Bernoulli 28 (2022),
        # bound quantiles by such counts.
        assert self._threshold is not None  # noqa: S101 - set for every ratio
        factor = np.where(self._is_candidate, (1 + effect) ** self._kind.direction, 1.0)
        threshold = self._threshold[self._block_of_window[self._window]]
        return (self._values / factor > threshold).astype(float), 0.0

    def _units(self, effect: float) -> tuple[Units, float]:
        """The independent units that are bet on, and the null."""
        bounded, null = self._bounded(effect)
        block = self._block_of_window[self._window] - self._first_block
        used = self._is_closed & (block >= 0)
        values, block, is_candidate = bounded[used], block[used], self._is_candidate[used]
        num_blocks = len(self._closing) - self._first_block
        if self._is_by_unit:
            # All requests of a unit are in the window of its first one, and so in one block.
            _, first, unit = np.unique(self._unit[used], return_index=True, return_inverse=True)
            values = np.bincount(unit, values) / np.maximum(np.bincount(unit), 1)
            block, is_candidate = block[first], is_candidate[first]
        elif self._kind.compared != "mean":
            # Zeros and ones are counted; thousands of requests become four numbers a block.
            code = (2 * block + is_candidate) * 2 + (values > 0)
            counts = np.bincount(code, minlength=4 * num_blocks)
            code = np.flatnonzero(counts)
            units = Units(
                values=(code % 2).astype(float),
                is_candidate=code // 2 % 2 == 1,
                block=code // 4,
                times=counts[code].astype(float),
                num_blocks=num_blocks,
            )
            return units, null
        return Units(values, is_candidate, block, np.ones(len(values)), num_blocks), null

    def _scale(self) -> tuple[Scale, Scale, float]:
        """Where bounds are searched for: ratios on a logarithmic scale, the rest as they are."""
        if self._kind.compared == "ratio":
            return (
                lambda effect: float(np.log1p(max(effect, -0.999))),
                lambda point: float(np.expm1(point)),
                _LOG_RATIOS,
            )
        largest = 1.0 if self._kind.compared == "rate" else self._bound
        return float, float, largest * 0.999

    def _bound_of(
        self, window: int, inside: float, outside: float, from_scale: Scale, *, sign: Sign
    ) -> float:
        """The farthest point from `inside` towards `outside` that is not refuted."""
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            capital = self._log_e(from_scale(middle), sign=sign)[window]
            if capital >= log(2 / self.alpha):
                outside = middle
            else:
                inside = middle
        # Outwards: the nearest point that is known to be refuted, or the end of the range.
        return outside

    def _thresholds(self) -> Floats:
        """The quantile of stable's samples in the blocks before each; inf for the first."""
        stable = self._is_closed & ~self._is_candidate
        block = self._block_of_window[self._window[stable]]
        values = self._values[stable][np.argsort(block, kind="stable")]
        ends = np.cumsum(np.bincount(block, minlength=len(self._closing))).tolist()
        thresholds = np.full(len(ends), inf)
        num_used = 0
        for index, end in enumerate(ends[:-1]):
            # NB: of earlier blocks alone: a threshold set by the block itself would know its end.
            if end > _REFRESH * num_used:
                rank = int(self._kind.level * end)
                thresholds[index + 1] = np.partition(values[:end], rank)[rank]
                num_used = end
            else:
                thresholds[index + 1] = thresholds[index]
        return thresholds

    def _per_window(self, chosen: Flags) -> Indices:
        return np.bincount(self._window[chosen], minlength=self._num_windows)

    def _at_windows(self, of_block: Floats, *, empty: float = 0.0) -> Floats:
        """What stood at the end of each window: the value of the last block closed by then."""
        last = np.searchsorted(self._closing, np.arange(self._num_windows), side="right")
        at_windows: Floats = np.concatenate([[empty], of_block])[last]
        return at_windows


def _merge_windows(counts: Indices) -> tuple[Indices, Indices]:
    """The block of each window (-1: not closed yet), and the window that closes each block.

    A block ends with the first window by whose end every arm has a sample in it. Windows are
    merged by how many samples there are, never by what they show.
    """
    block_of_window = np.full(counts.shape[1], -1)
    closing: list[int] = []
    start, missing = 0, set(range(len(counts)))
    for window, of_arms in enumerate(counts.T.tolist()):
        missing.difference_update(arm for arm, num in enumerate(of_arms) if num)
        if not missing:
            block_of_window[start : window + 1] = len(closing)
            closing.append(window)
            start, missing = window + 1, set(range(len(counts)))
    return block_of_window, np.array(closing, dtype=np.int64)


def _running_mean(units: Units, chosen: Flags) -> Floats:
    """The mean of the chosen units up to each block; every block has one of them."""
    total = np.cumsum(units.per_block(units.values * chosen))
    mean: Floats = total / np.cumsum(units.per_block(chosen))
    return mean
