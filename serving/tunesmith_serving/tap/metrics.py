"""The metrics of a replica, beside vLLM's own: requests, latencies and tokens by version.

They stand in prometheus_client's default registry, which vLLM shows on `/metrics`. vLLM's own have
no version, and count an answer that broke off as a success.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from tunesmith_api.modeldeployment.slo import BOUNDARIES

Outcome = Literal["complete", "error", "incomplete", "rejected", "cancelled"]
# Why a request is measured in part, or, at a fault, not at all.
DropReason = Literal["longRequest", "unreadableRequest", "unreadableAnswer", "fault"]
OTHER_MODEL: Final = "other"


@dataclass(frozen=True, slots=True)
class _Series:
    """Those of one model."""

    requests: Mapping[Outcome, Counter]
    ttft: Histogram
    itl: Histogram
    prompt_tokens: Counter
    output_tokens: Counter


class ReplicaMetrics:
    """Counts what a replica does for its clients.

    `models` are the names that it serves. Whatever else clients ask for counts as `other`, so that
    nobody can make series by inventing names.
    """

    def __init__(
        self,
        *,
        models: Collection[str],
        version: str,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._version = version
        labels = ("model", "version")
        self._requests = Counter(
            "tunesmith_requests",
            "Requests that are over. rejected: the client's fault; cancelled: the client hung up.",
            (*labels, "outcome"),
            registry=registry,
        )
        self._ttft = Histogram(
            "tunesmith_time_to_first_token_seconds",
            "Time to the first token; of a request given up before it, the time that it waited.",
            labels,
            buckets=BOUNDARIES,
            registry=registry,
        )
        self._itl = Histogram(
            "tunesmith_inter_token_latency_seconds",
            "Mean time between the tokens of an answer; one observation a request.",
            labels,
            buckets=BOUNDARIES,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "tunesmith_prompt_tokens", "Tokens of the prompts.", labels, registry=registry
        )
        self._output_tokens = Counter(
            "tunesmith_output_tokens", "Tokens of the answers.", labels, registry=registry
        )
        dropped = Counter(
            "tunesmith_tap_dropped",
            "Requests of which something was not measured for drift, by reason.",
            ("version", "reason"),
            registry=registry,
        )
        self._dropped: dict[DropReason, Counter] = {
            reason: dropped.labels(version=version, reason=reason)
            for reason in get_args(DropReason)
        }
        # NB: made at the start. Prometheus sees no increase in a series that is born with its first
        # error; and to look a child up by its labels costs more than to count.
        self._series = {model: self._series_of(model) for model in models}

    def observe(
        self,
        model: str | None,
        *,
        outcome: Outcome,
        ttft_seconds: float | None = None,
        itl_seconds: float | None = None,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
    ) -> None:
        """Count one request that is over; None is what was not seen of it."""
        series = self._series.get(model or OTHER_MODEL)
        if series is None:
            series = self._series.setdefault(OTHER_MODEL, self._series_of(OTHER_MODEL))
        series.requests[outcome].inc()
        for histogram, seconds in ((series.ttft, ttft_seconds), (series.itl, itl_seconds)):
            # One NaN would make the sum NaN for ever.
            if seconds is not None and isfinite(seconds) and seconds >= 0:
                histogram.observe(seconds)
        for counter, tokens in (
            (series.prompt_tokens, prompt_tokens),
            (series.output_tokens, output_tokens),
        ):
            if tokens is not None and tokens > 0:
                counter.inc(tokens)

    def count_dropped(self, reason: DropReason) -> None:
        """Count one request that the tap could not measure whole."""
        self._dropped[reason].inc()

    def _series_of(self, model: str) -> _Series:
        labels = {"model": model, "version": self._version}
        return _Series(
            requests={
                outcome: self._requests.labels(**labels, outcome=outcome)
                for outcome in get_args(Outcome)
            },
            ttft=self._ttft.labels(**labels),
            itl=self._itl.labels(**labels),
            prompt_tokens=self._prompt_tokens.labels(**labels),
            output_tokens=self._output_tokens.labels(**labels),
        )
