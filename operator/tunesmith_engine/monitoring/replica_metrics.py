"""What a replica shows on `/metrics`, as counts that can be subtracted and added up.

Of the hundreds of series in Prometheus' text only those of requests, latencies and tokens are read.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tunesmith_api.modeldeployment.slo import BOUNDARIES
from tunesmith_engine.monitoring.exposition import number, series

_REQUESTS: Final = "tunesmith_requests_total"
_TTFT: Final = "tunesmith_time_to_first_token_seconds_bucket"
_ITL: Final = "tunesmith_inter_token_latency_seconds_bucket"
# Of the engine: a replica learns the tokens of an answer only where the answer tells them.
_TOKENS: Final = "vllm:generation_tokens_total"
_NAMES: Final = (_REQUESTS, _TTFT, _ITL, _TOKENS)

# How many observations lie up to a boundary and above the next lower one; without empty ones.
Histogram = Mapping[float, float]


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """Counts since the start of a process, or of a stretch of time.

    `outcomes` are requests by how they ended; `ttft` and `itl` are histograms in seconds; `tokens`
    were generated.
    """

    outcomes: Mapping[str, float] = field(default_factory=dict)
    ttft: Histogram = field(default_factory=dict)
    itl: Histogram = field(default_factory=dict)
    tokens: float = 0.0

    @property
    def num_requests(self) -> float:
        return sum(self.outcomes.values())


def parse_metrics(text: str) -> ReplicaMetrics:
    """The counts in Prometheus' text format; a line that is none is passed over."""
    outcomes: defaultdict[str, float] = defaultdict(float)
    cumulative: dict[str, defaultdict[float, float]] = {
        _TTFT: defaultdict(float),
        _ITL: defaultdict(float),
    }
    tokens = 0.0
    for name, labels, value in series(text, names=_NAMES):
        if name == _REQUESTS:
            outcomes[labels.get("outcome", "")] += value
        elif name == _TOKENS:
            tokens += value
        elif (boundary := number(labels.get("le", ""))) is not None:
            cumulative[name][boundary] += value
    return ReplicaMetrics(
        outcomes=dict(outcomes),
        ttft=_apart(cumulative[_TTFT]),
        itl=_apart(cumulative[_ITL]),
        tokens=tokens,
    )


def increase(before: ReplicaMetrics, after: ReplicaMetrics) -> ReplicaMetrics:
    """What was counted in between; all of `after` where the process is another one.

    NB: a process that has started again counts from 0, so that no count of it can be less.
    """
    is_another = after.tokens < before.tokens or any(
        after.outcomes.get(outcome, 0) < count for outcome, count in before.outcomes.items()
    )
    if is_another:
        return after
    return ReplicaMetrics(
        outcomes={key: new - before.outcomes.get(key, 0) for key, new in after.outcomes.items()},
        ttft=_difference(before.ttft, after.ttft),
        itl=_difference(before.itl, after.itl),
        tokens=after.tokens - before.tokens,
    )


def added_up(parts: Iterable[ReplicaMetrics]) -> ReplicaMetrics:
    """The counts of several replicas, or of several stretches of time."""
    outcomes, ttft, itl = Counter[str](), Counter[float](), Counter[float]()
    tokens = 0.0
    for part in parts:
        outcomes.update(part.outcomes)
        ttft.update(part.ttft)
        itl.update(part.itl)
        tokens += part.tokens
    return ReplicaMetrics(outcomes=outcomes, ttft=ttft, itl=itl, tokens=tokens)


def quantile(histogram: Histogram, part: float) -> float | None:
    """The value below which that part of the observations lies; None without any.

    As Prometheus' `histogram_quantile`: evenly within a bucket, and the last boundary for what lies
    above it.
    """
    total = sum(histogram.values())
    if total <= 0:
        return None
    rank, below = part * total, 0.0
    for upper in sorted(histogram):
        count = histogram[upper]
        if below + count >= rank and count > 0:
            if math.isinf(upper):
                return BOUNDARIES[-1]
            place = bisect_left(BOUNDARIES, upper)
            lower = BOUNDARIES[place - 1] if place else 0.0
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return BOUNDARIES[-1]


def _difference(before: Histogram, after: Histogram) -> dict[float, float]:
    grown = {bound: count - before.get(bound, 0) for bound, count in after.items()}
    return {bound: count for bound, count in grown.items() if count > 0}


def _apart(cumulative: Mapping[float, float]) -> dict[float, float]:
    """From counts of all that lies below to those of each bucket."""
    counts, below = {}, 0.0
    for bound in sorted(cumulative):
        # Buckets are read one after the other, so that a request in between makes one too low.
        if cumulative[bound] > below:
            counts[bound] = cumulative[bound] - below
        below = max(below, cumulative[bound])
    return counts
