"""A replica's own counters on `/metrics`, and by how much they grew from one reading to the next.

The text is Prometheus'; of the hundreds of series there only those that promises and cost need are
read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

from tunesmith_api.base import ApiModel
from tunesmith_api.modeldeployment.monitoring_status import SloName
from tunesmith_api.modeldeployment.slo import Latency, ServiceLevelObjectives

TOKENS: Final = "tokens"
REQUESTS: Final = "requests"
UPTIME: Final = "uptime"
_REQUESTS: Final = "tunesmith_requests_total"
_LATENCIES: Final[Mapping[SloName, str]] = {
    "ttft": "tunesmith_time_to_first_token_seconds",
    "itl": "tunesmith_inter_token_latency_seconds",
}
# vLLM's own: a replica learns the tokens of a streamed prompt only where a client asks for them.
_TOKENS: Final = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
# What the client did wrong or gave up says nothing about us.
_COUNTED: Final = frozenset({"complete", "error", "incomplete"})
_LINE: Final = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Promise:
    """One objective: where its requests are counted, `NAME:all` and `NAME:good`.

    `key` names the threshold, too: what was counted by another one says nothing of it.
    """

    name: SloName
    key: str
    objective: float
    seconds: float | None = None


class ReplicaCounters(ApiModel):
    """One reading of one process; `instance` is another one after a restart."""

    instance: str
    values: dict[str, float]


def promises(slo: ServiceLevelObjectives | None) -> tuple[Promise, ...]:
    """What is promised, each by its key."""
    if slo is None:
        return ()
    made: list[Promise] = []
    if slo.availability is not None:
        made.append(Promise("availability", "availability", slo.availability.objective))
    latencies: tuple[tuple[SloName, Latency | None], ...] = (("ttft", slo.ttft), ("itl", slo.itl))
    for name, latency in latencies:
        if latency is not None:
            key = f"{name}@{latency.seconds:g}"
            made.append(Promise(name, key, latency.objective, latency.seconds))
    return tuple(made)


def read_counters(text: str, made: Iterable[Promise]) -> dict[str, float]:
    """The counters in a replica's metrics: requests, tokens, and those of the promises."""
    thresholds = {promise.name: promise for promise in made}
    # At 0 where nothing was counted yet: what is missing from one reading is not news in the next.
    keys = [f"{promise.key}:{part}" for promise in thresholds.values() for part in ("all", "good")]
    values = dict.fromkeys((TOKENS, REQUESTS, *keys), 0.0)
    for name, labels, value in _series(text):
        if name in _TOKENS:
            values[TOKENS] += value
        elif name == _REQUESTS:
            is_complete = labels.get("outcome") == "complete"
            values[REQUESTS] += value if is_complete else 0.0
            if "availability" in thresholds:
                values["availability:all"] += value if labels.get("outcome") in _COUNTED else 0.0
                values["availability:good"] += value if is_complete else 0.0
        for kind, family in _LATENCIES.items():
            promise = thresholds.get(kind)
            if promise is None:
                continue
            if name == f"{family}_count":
                values[f"{promise.key}:all"] += value
            elif name == f"{family}_bucket" and _is_boundary(labels, promise):
                values[f"{promise.key}:good"] += value
    return values


def growth(before: ReplicaCounters | None, after: ReplicaCounters) -> dict[str, float]:
    """By how much each counter grew; a process that is new has counted from 0.

    Of a counter that was not read before, of the same process, nobody knows since when it counts.
    """
    if before is None or before.instance != after.instance:
        return dict(after.values)
    return {
        name: max(0.0, value - before.values[name])
        for name, value in after.values.items()
        if name in before.values
    }


def _is_boundary(labels: Mapping[str, str], promise: Promise) -> bool:
    return promise.seconds is not None and labels.get("le") == repr(float(promise.seconds))


def _series(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    wanted = (_REQUESTS, *_TOKENS, *_LATENCIES.values())
    for line in text.splitlines():
        if not line.startswith(wanted):
            continue
        matched = _LINE.match(line)
        if matched is None:
            continue
        name, labels, written = matched.groups()
        try:
            value = float(written)
        except ValueError:
            continue
        if isfinite(value):
            yield name, dict(_LABEL.findall(labels or "")), value
