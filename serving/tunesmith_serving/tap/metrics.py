"""The metrics of a replica, beside vLLM's own: requests, latencies and tokens by version.

They stand in prometheus_client's default registry, which vLLM shows on `/metrics`. vLLM's own have
no version, and count an answer that broke off as a success.
"""

from collections.abc import Collection, Iterable
from math import isfinite
from typing import Final, Literal, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

Outcome = Literal["complete", "error", "incomplete", "rejected", "cancelled"]
OTHER_MODEL: Final = "other"
# Seconds; those that OpenTelemetry recommends for generative models.
TTFT_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
ITL_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip


class ReplicaMetrics:
    """Counts what a replica does for its clients.

    `models` are the names that it serves. Whatever else clients ask for counts as `other`, so that
    nobody can make series by inventing names. `ttft_seconds` and `itl_seconds` are thresholds of
    the SLO: each becomes a boundary, for a share between two boundaries is a guess.
    """

    def __init__(
        self,
        *,
        models: Collection[str],
        version: str,
        ttft_seconds: Iterable[float] = (),
        itl_seconds: Iterable[float] = (),
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._models = frozenset(models)
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
            buckets=_boundaries(TTFT_BUCKETS, ttft_seconds),
            registry=registry,
        )
        self._itl = Histogram(
            "tunesmith_inter_token_latency_seconds",
            "Mean time between the tokens of an answer; one observation a request.",
            labels,
            buckets=_boundaries(ITL_BUCKETS, itl_seconds),
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "tunesmith_prompt_tokens", "Tokens of the prompts.", labels, registry=registry
        )
        self._output_tokens = Counter(
            "tunesmith_output_tokens", "Tokens of the answers.", labels, registry=registry
        )
        for model in self._models:
            self._start_at_zero(model)

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
        known = model if model in self._models else OTHER_MODEL
        labels = {"model": str(known), "version": self._version}
        self._requests.labels(**labels, outcome=outcome).inc()
        for histogram, seconds in ((self._ttft, ttft_seconds), (self._itl, itl_seconds)):
            # One NaN would make the sum NaN for ever.
            if seconds is not None and isfinite(seconds) and seconds >= 0:
                histogram.labels(**labels).observe(seconds)
        for counter, tokens in (
            (self._prompt_tokens, prompt_tokens),
            (self._output_tokens, output_tokens),
        ):
            if tokens is not None and tokens > 0:
                counter.labels(**labels).inc(tokens)

    def _start_at_zero(self, model: str) -> None:
        """Prometheus sees no increase in a series that is born with its first error."""
        labels = {"model": model, "version": self._version}
        for outcome in get_args(Outcome):
            self._requests.labels(**labels, outcome=outcome)
        for family in (self._ttft, self._itl, self._prompt_tokens, self._output_tokens):
            family.labels(**labels)


def _boundaries(usual: Iterable[float], thresholds: Iterable[float]) -> list[float]:
    return sorted({*usual, *thresholds})
