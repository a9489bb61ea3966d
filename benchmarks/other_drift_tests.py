"""How others look for drift, on the same stream: Evidently as shipped, and a KS test each hour.

Both compare the requests of an hour with the reference. Signals that no reference has, and words,
which are no column of a table, are left out: that spares them alarms.
"""

from math import exp, sqrt
from typing import Final

import numpy as np

from tunesmith_engine.drift.events import Floats
from tunesmith_engine.drift.signals import SIGNALS, Signal
from tunesmith_engine.drift.sketches import Reference, Sketch

# Evidently 0.7, docs "Data drift": above 1,000 rows the Wasserstein distance over the standard
# deviation (numbers) and the Jensen-Shannon distance (categories), both 0.1; a data set has drifted
# when half of its columns have. Numbers of at most five values count as categories.
_DISTANCE: Final = 0.1
_SHARE_OF_COLUMNS: Final = 0.5
_FEW_VALUES: Final = 5
_SMALLEST_DEVIATION: Final = 0.001
# Every drift tool's usual level.
_P_VALUE: Final = 0.05
COLUMNS: Final = tuple(
    signal for signal in SIGNALS if signal.in_reference and not signal.is_multiple
)


def looks(reference: Reference, hour: Sketch) -> dict[str, bool]:
    """Whether each rule alarms at one hour of requests."""
    evidently: list[bool] = []
    p_values: list[float] = []
    for signal in COLUMNS:
        before = np.array(reference.training.signals[signal.name], dtype=np.float64)
        after = np.array(hour.signals[signal.name], dtype=np.float64)
        if not before.sum() or not after.sum():
            continue
        evidently.append(_has_drifted(before, after, signal))
        if signal.is_ordered:
            p_values.append(_ks_p_value(before, after))
    return {
        "evidentlyAnyColumn": any(evidently),
        "evidentlyDataset": sum(evidently) >= _SHARE_OF_COLUMNS * len(evidently),
        "ksAnyColumn": min(p_values) < _P_VALUE,
        "ksBonferroni": min(p_values) < _P_VALUE / len(p_values),
    }


def _has_drifted(before: Floats, after: Floats, signal: Signal) -> bool:
    p, q = before / before.sum(), after / after.sum()
    if not signal.is_ordered or np.count_nonzero(before) <= _FEW_VALUES:
        mean = (p + q) / 2
        return sqrt(max(0.0, (_kl(p, mean) + _kl(q, mean)) / 2)) >= _DISTANCE
    values = np.arange(len(p))
    deviation = sqrt(float(p @ values**2) - float(p @ values) ** 2)
    wasserstein = float(np.abs(np.cumsum(p - q)).sum())
    return wasserstein / max(deviation, _SMALLEST_DEVIATION) >= _DISTANCE


def _kl(p: Floats, q: Floats) -> float:
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _ks_p_value(before: Floats, after: Floats) -> float:
    """Two samples, by Kolmogorov's limit; with ties it is too large, which spares alarms."""
    m, n = before.sum(), after.sum()
    distance = float(np.abs(np.cumsum(before / m - after / n)).max())
    scaled = (distance * sqrt(m * n / (m + n))) ** 2
    tail = 2 * sum((-1) ** (k - 1) * exp(-2 * k * k * scaled) for k in range(1, 101))
    return min(1.0, max(0.0, tail)) if scaled > 0.04 else 1.0  # noqa: PLR2004 - the series fails
