"""How quickly the error budgets of a deployment go, from what its replicas have counted.

The same windows and factors as the alerts (`slo_rules.py`), so that a status and an alert say the
same; this works without Prometheus.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from tunesmith_api.modeldeployment.monitoring_status import SloStatus
from tunesmith_engine.monitoring.replica_counters import Promise
from tunesmith_engine.monitoring.slo_rules import BURN_WINDOWS, PERIOD_S, WINDOWS_S
from tunesmith_engine.monitoring.tallies import Tally

# A burn that hovers at its factor would flip the condition at every look.
_ENDS_BELOW: Final = 0.8


def burn_rates(tally: Tally, *, objective: float, now: datetime) -> dict[str, float]:
    """How many times as quickly as the budget allows, by window; none without requests.

    `tally` holds all requests and the good ones. What was before it counts as kept: of a deployment
    that is new, an hour's failures have not used up what three days may.
    """
    rates = {}
    for name, seconds in WINDOWS_S.items():
        missed = _missed(tally, seconds, now=now)
        if missed is not None:
            rates[name] = tally.coverage(seconds, now=now) * missed / (1 - objective)
    return rates


def budget_remaining(tally: Tally, *, objective: float, now: datetime) -> float | None:
    """The share of the month's budget that is left, by requests; None without any."""
    missed = _missed(tally, PERIOD_S, now=now)
    return None if missed is None else 1 - missed / (1 - objective)


def is_burning(rates: Mapping[str, float], *, was_burning: bool) -> bool:
    """Whether both windows of a pair are past its factor; once they were, until clearly below."""
    share = _ENDS_BELOW if was_burning else 1.0
    return any(
        min(rates.get(window.long, 0.0), rates.get(window.short, 0.0)) > share * window.factor
        for window in BURN_WINDOWS
    )


def slo_statuses(
    promises: Iterable[Promise],
    tallies: Mapping[str, Tally],
    *,
    before: Iterable[SloStatus],
    now: datetime,
) -> tuple[SloStatus, ...]:
    """Each promise as it stands; `before` says which were burning."""
    burning = {status.name for status in before if status.burning}
    return tuple(
        _status(
            promise,
            tallies.get(promise.key, Tally()),
            was_burning=promise.name in burning,
            now=now,
        )
        for promise in promises
    )


def _status(promise: Promise, tally: Tally, *, was_burning: bool, now: datetime) -> SloStatus:
    rates = burn_rates(tally, objective=promise.objective, now=now)
    remaining = budget_remaining(tally, objective=promise.objective, now=now)
    missed = _missed(tally, WINDOWS_S["1h"], now=now)
    return SloStatus(
        name=promise.name,
        objective=promise.objective,
        burn_rate=None if missed is None else float(f"{missed / (1 - promise.objective):.4g}"),
        budget_remaining=None if remaining is None else float(f"{remaining:.4g}"),
        burning=is_burning(rates, was_burning=was_burning),
    )


def _missed(tally: Tally, seconds: float, *, now: datetime) -> float | None:
    sums = tally.over(seconds, now=now)
    if not sums or sums[0] <= 0:
        return None
    every, good = sums
    # Bucket and count are read apart: a request in between counts as good without being counted.
    return max(0.0, 1 - good / every)
