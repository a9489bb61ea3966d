"""The breaker: a candidate whose requests fail in a burst is taken back without waiting.

The judge counts nothing of the warm-up, and waits for fifty requests of each version. Failures need
neither: no cold cache makes a server fail. So the e-process of the failures, which knows no
smallest number of samples, runs a second time, from the first request on, with its own share of
the error budget (`judge.py`).
"""

from dataclasses import dataclass, replace
from math import log
from typing import Final

import numpy as np

from tunesmith_api.modeldeployment.limits import Limits, Metric
from tunesmith_engine.rollout.columns import Columns, count, window_end_s
from tunesmith_engine.rollout.evidence import MetricEvidence

# Requests that one bad client sent are not independent, as the e-process takes them to be: less
# failures of a candidate than these decide nothing. It only takes evidence away.
FEWEST_FAILURES: Final = 5
# A failure of a burst gains about two nats: a twentieth of the budget costs two failures more than
# all of it would, and takes 0.05 nats from the metrics.
BREAKER_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Trip:
    """When the breaker tripped, and by what: shares of failed requests, and how many there were."""

    at_seconds: float
    log_e: float
    stable: float
    candidate: float
    num_stable: int
    num_candidate: int


def breaker_limits(limits: Limits) -> Limits | None:
    """The limits that the breaker counts by; None where errors are not judged."""
    if Metric.ERRORS not in limits.metrics:
        return None
    watched_s = min(limits.cluster_window_seconds, limits.window_seconds)
    return limits.model_copy(update={"warmup_seconds": 0.0, "cluster_window_seconds": watched_s})


def breaker_share(limits: Limits) -> float:
    """The part of the error budget that the breaker has, and the metrics have not."""
    return BREAKER_SHARE if Metric.ERRORS in limits.metrics else 0.0


def trip(columns: Columns, limits: Limits, *, now_s: float) -> Trip | None:
    """The first look, up to `now_s`, at which the breaker trips."""
    own = breaker_limits(limits)
    if own is None:
        return None
    failed = columns.fields["error"]
    if Metric.INCOMPLETE in limits.metrics:
        failed = np.maximum(failed, columns.fields["incomplete"])
    fields = {**columns.fields, "error": failed}
    counted = count(replace(columns, fields=fields), own, now_s=now_s)
    failures = MetricEvidence(counted, own, Metric.ERRORS)
    log_e = failures.harm_log_e() + log(BREAKER_SHARE)
    is_failing = counted.is_candidate & (counted.fields["error"] > 0)
    num_failed = np.cumsum(np.bincount(counted.window[is_failing], minlength=counted.num_windows))
    trips = (log_e >= log(1 / limits.alpha)) & failures.is_nearer_to_harm()
    trips &= num_failed >= FEWEST_FAILURES
    if not trips.any():
        return None
    look = int(np.argmax(trips))
    seen = (counted.window <= look) & ~counted.is_prompt
    stable, candidate = (
        counted.fields["error"][seen & (counted.is_candidate == arm)] for arm in (False, True)
    )
    return Trip(
        at_seconds=window_end_s(own, look),
        log_e=float(log_e[look]),
        stable=float(stable.mean()),
        candidate=float(candidate.mean()),
        num_stable=len(stable),
        num_candidate=len(candidate),
    )
