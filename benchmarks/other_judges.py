"""How other canary systems judge the same samples: fixed thresholds, and Mann-Whitney.

Written down compactly from their documentation and source, each looking at every window as ours
does, and each with the warm-up left out. A look says whether the candidate is to be rolled back.
"""

from math import exp, sqrt
from statistics import NormalDist

import numpy as np
from simulated_canaries import LENGTH_S, TTFT_S, TTFT_SIGMA, load_factors

from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_engine.rollout.columns import Columns
from tunesmith_engine.rollout.eprocess import Flags, Floats

# Flagger's and Argo's checks ask Prometheus for the last minute.
RANGE_S = 60.0
# Flagger, docs "Metrics Analysis": success rate at least 99 %, P99 of the duration below a bound;
# "threshold: 5" failed checks roll back.
FLAGGER_SUCCESS, FLAGGER_LEVEL, FLAGGER_FAILURES = 0.99, 0.99, 5
# Argo Rollouts, docs "Analysis": success rate at least 95 %, "failureLimit: 3": a fourth one fails.
ARGO_SUCCESS, ARGO_LEVEL, ARGO_FAILURES = 0.95, 0.95, 4
# NetflixACAJudge calls MannWhitneyClassifier(tolerance = 0.25, confLevel = 0.98).
KAYENTA_TOLERANCE, KAYENTA_CONFIDENCE = 0.25, 0.98
# A bound that somebody would set who knows the service well: a fifth above its quantile at the
# highest load. Set by the usual load, it would refuse every candidate that meets a busy hour.
BOUND = 1.2
# With fewer points an arm no result of the test can be significant.
FEWEST_POINTS = 4


def highest_ttft_s(level: float) -> float:
    """The quantile of stable's time to first token at the top of the wave of load."""
    peak = float(load_factors(np.linspace(0, LENGTH_S, 1000), 0.0).max())
    return peak * TTFT_S * exp(TTFT_SIGMA * NormalDist().inv_cdf(level))


def fixed_thresholds(
    columns: Columns,
    limits: Limits,
    *,
    success: float,
    level: float,
    failures: int,
    bound_s: float,
    every: int = 1,
) -> Flags:
    """At each look, whether as many checks of the candidate's last minute have failed by then.

    A check is made at every look, or at one of so many; failures are never forgotten.
    """
    mine = columns.is_candidate & (columns.time_s >= limits.warmup_seconds)
    time_s, error = columns.time_s[mine], columns.fields["error"][mine]
    ttft = columns.fields["ttft_seconds"][mine]
    looks = np.arange(
        limits.warmup_seconds + limits.window_seconds, LENGTH_S + 1e-9, limits.window_seconds
    )
    firsts = np.searchsorted(time_s, looks - RANGE_S)
    lasts = np.searchsorted(time_s, looks)
    has_failed = np.zeros(len(looks), dtype=bool)
    for look, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        seen = ttft[first:last]
        seen = seen[~np.isnan(seen)]
        if not len(seen):
            continue
        rank = int(level * len(seen))
        slow = np.partition(seen, rank)[rank] > bound_s
        has_failed[look] = slow or 1 - error[first:last].mean() < success
    has_failed[(np.arange(len(looks)) + 1) % every != 0] = False
    rolled_back: Flags = np.cumsum(has_failed) >= failures
    return rolled_back


def mann_whitney(columns: Columns, limits: Limits, names: tuple[str, ...]) -> Flags:
    """At each look, whether a metric was classified as High by Kayenta's rule by then.

    Kayenta compares points of time series, here the mean of each window and arm: High if the lower
    confidence bound of the Hodges-Lehmann shift exceeds a quarter of the estimated shift.
    """
    any_high: Flags | None = None
    for name in names:
        candidate, stable = (
            _window_means(columns, limits, name=name, candidate=arm) for arm in (True, False)
        )
        high = _is_high(candidate, stable)
        any_high = high if any_high is None else any_high | high
    assert any_high is not None  # noqa: S101 - there is a name
    rolled_back: Flags = np.maximum.accumulate(any_high)
    return rolled_back


def _window_means(columns: Columns, limits: Limits, *, name: str, candidate: bool) -> Floats:
    values = columns.fields[name]
    used = (
        (columns.is_candidate == candidate)
        & (columns.time_s >= limits.warmup_seconds)
        & ~np.isnan(values)
    )
    since_s = columns.time_s[used] - limits.warmup_seconds
    window = (since_s / limits.window_seconds).astype(np.int64)
    num_windows = int((LENGTH_S - limits.warmup_seconds) / limits.window_seconds)
    total = np.bincount(window, values[used], minlength=num_windows)
    means: Floats = total / np.maximum(np.bincount(window, minlength=num_windows), 1)
    return means


def _is_high(candidate: Floats, stable: Floats) -> Flags:
    differences = candidate[:, None] - stable[None, :]
    wins = np.cumsum(np.cumsum((np.sign(differences) + 1) / 2, axis=0), axis=1).diagonal()
    num = np.arange(1, len(wins) + 1)
    z = NormalDist().inv_cdf((1 + KAYENTA_CONFIDENCE) / 2)
    reach = z * np.sqrt(num * num * (2 * num + 1) / 12)
    is_high = np.zeros(len(num), dtype=bool)
    # The lower bound can be above the tolerance only where the test itself is significant.
    for look in np.flatnonzero((wins - num * num / 2 > reach) & (num >= FEWEST_POINTS)):
        n = int(look) + 1
        rank = max(0, int(n * n / 2 - z * sqrt(n * n * (2 * n + 1) / 12)))
        shifts = np.partition(differences[:n, :n].ravel(), [rank, n * n // 2])
        if shifts[rank] > KAYENTA_TOLERANCE * abs(shifts[n * n // 2]):
            # Nobody asks what it says later: the candidate is gone.
            is_high[look] = True
            break
    return is_high
