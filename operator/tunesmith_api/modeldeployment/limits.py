"""What a rollout is judged by: the metrics, the effects that matter, the error budget, the time.

They are fixed before the first sample. Limits that follow the data void every promise of the judge.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.modeldeployment.queries import RULES as QUERY_RULES
from tunesmith_api.modeldeployment.queries import MetricQuery
from tunesmith_api.rules import Rule

Positive = Annotated[float, Field(gt=0)]


class Metric(StrEnum):
    """What the arms are compared by. In each, a larger effect is a worse candidate."""

    ERRORS = "errors"
    INCOMPLETE = "incomplete"
    REFUSALS = "refusals"
    TTFT_P50 = "ttftP50"
    TTFT_P90 = "ttftP90"
    ITL_P50 = "itlP50"
    ITL_P90 = "itlP90"
    LONGER_ANSWERS = "longerAnswers"
    SHORTER_ANSWERS = "shorterAnswers"
    QUALITY_LOSS = "qualityLoss"


def _metric_of(name: object) -> object:
    # Manifests are read strictly, and text is then no member of an enumeration.
    if isinstance(name, str) and name not in set(Metric):
        raise ValueError(f"{name!r} is none of {', '.join(Metric)}; choose one of them")
    return Metric(name) if isinstance(name, str) else name


MetricName = Annotated[Metric, BeforeValidator(_metric_of)]


@dataclass(frozen=True, slots=True)
class MetricKind:
    """How a metric is compared, and which field of a sample it reads.

    `rate`: difference of shares. `ratio`: how far the quantile `level` of the candidate is above
    stable's (`direction` 1) or below it (-1), as a part of the smaller. `mean`: mean of a
    difference that was measured prompt by prompt.
    """

    field: str
    compared: Literal["rate", "ratio", "mean"]
    minimum_effect: float
    level: float = 0.5
    direction: Literal[1, -1] = 1


# The effects are what a service usually wants to hear of: a point of failures, a fifth of latency,
# a quarter of length, 0.05 nats per token (perplexity up by 5 %).
METRICS: Final[dict[Metric, MetricKind]] = {
    Metric.ERRORS: MetricKind("error", "rate", 0.01),
    Metric.INCOMPLETE: MetricKind("incomplete", "rate", 0.01),
    Metric.REFUSALS: MetricKind("refusal", "rate", 0.02),
    Metric.TTFT_P50: MetricKind("ttft_seconds", "ratio", 0.2, level=0.5),
    Metric.TTFT_P90: MetricKind("ttft_seconds", "ratio", 0.2, level=0.9),
    Metric.ITL_P50: MetricKind("itl_seconds", "ratio", 0.2, level=0.5),
    Metric.ITL_P90: MetricKind("itl_seconds", "ratio", 0.2, level=0.9),
    Metric.LONGER_ANSWERS: MetricKind("output_tokens", "ratio", 0.25),
    Metric.SHORTER_ANSWERS: MetricKind("output_tokens", "ratio", 0.25, direction=-1),
    Metric.QUALITY_LOSS: MetricKind("quality_loss", "mean", 0.05),
}
# Refusals and quality are judged only where they are asked for: not everybody can observe them, and
# what is listed has to be shown before a candidate is promoted.
DEFAULT_METRICS: Final[tuple[Metric, ...]] = tuple(
    metric for metric in Metric if metric not in {Metric.REFUSALS, Metric.QUALITY_LOSS}
)


class MetricLimits(ApiModel):
    """What of one metric matters."""

    minimum_effect: Annotated[Positive | None, DecidedLater("the metric's own")] = Field(
        None,
        description="Smallest effect that must not be promoted: 0.01 for a point of errors, 0.2 "
        "for a fifth of latency. Default: the metric's own.",
    )
    # Stable's own answers, scored under any other model, lose.
    tolerated: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Up to here the candidate counts as no worse; above 0 for a quality loss that "
        "even a good version shows.",
    )
    weight: Positive = Field(
        1.0, description="Its share of the error budget, relative to the others'."
    )
    # Bets need bounded stakes.
    bound: Positive = Field(
        1.0,
        description="Quality losses are cut off at plus and minus this. A narrow bound learns "
        "faster, and does not see how bad the worst prompts are.",
    )


class Limits(ApiModel):
    """The rules of one analysis."""

    alpha: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.05,
        description="Error budget of the whole rollout, over all metrics and looks: the chance "
        "that a candidate that is no worse is rolled back, and the chance that one that is worse "
        "by a minimum effect is promoted.",
    )
    window_seconds: Positive = Field(
        10.0,
        description="The judge looks when a window is over; the order of the samples within one "
        "does not matter.",
    )
    warmup_seconds: Annotated[float, Field(ge=0)] = Field(
        60.0,
        description="Samples before it count for neither version: a candidate starts with empty "
        "caches.",
    )
    minimum_samples: Annotated[int, Field(ge=1)] = Field(
        50, description="Of each version, before any verdict."
    )
    deadline_seconds: Positive = Field(
        3600.0, description="What is not settled by then stays inconclusive."
    )
    unit: Literal["request", "cluster"] = Field(
        "request",
        description="What is independent of each other. request: every request. cluster: "
        "conversations or API keys; each counts once, with the mean over its requests.",
    )
    cluster_window_seconds: Positive = Field(
        60.0,
        description="How long a conversation or key is watched; verdicts come that much later.",
    )
    metrics: dict[MetricName, MetricLimits] = Field(
        default_factory=lambda: {metric: MetricLimits() for metric in DEFAULT_METRICS},
        min_length=1,
        max_length=len(Metric),
        description="What the versions are compared by; also `refusals` and `qualityLoss`, which "
        "are judged only where they are named. What is named has to be shown before a promotion.",
    )
    queries: Annotated[list[MetricQuery], Field(max_length=8)] = Field(
        default_factory=list,
        description="Further numbers from Prometheus, held against bounds. NB: outside of `alpha`, "
        "which counts for `metrics` alone.",
    )
    query_seconds: Positive = Field(
        30.0, description="Seconds between two readings of `queries`; not below a scrape interval."
    )

    @model_validator(mode="after")
    def _effects_are_in_order(self) -> "Limits":
        for metric, limits in self.metrics.items():
            smallest = self.minimum_effect(metric)
            if limits.tolerated >= smallest:
                raise ValueError(
                    f"metrics.{metric}.tolerated is {limits.tolerated:g}, but has to be below the "
                    f"minimum effect of {smallest:g}; lower it, or raise minimumEffect"
                )
            largest = {"rate": 1.0, "mean": limits.bound}.get(METRICS[metric].compared)
            if largest is not None and smallest >= largest:
                raise ValueError(
                    f"metrics.{metric}.minimumEffect is {smallest:g}, but no effect can reach "
                    f"{largest:g}; lower it"
                )
        if self.deadline_seconds < self.warmup_seconds + self.window_seconds:
            raise ValueError(
                f"deadlineSeconds is {self.deadline_seconds:g}, but has to leave one window of "
                f"{self.window_seconds:g} after {self.warmup_seconds:g} of warm-up; raise it"
            )
        return self

    def minimum_effect(self, metric: Metric) -> float:
        """The smallest effect of a metric that must not be promoted."""
        return self.metrics[metric].minimum_effect or METRICS[metric].minimum_effect


def _minimum_effects_cel() -> str:
    """The minimum effect of the metric `name`, as CEL finds it."""
    defaults = ", ".join(f"'{metric}': {kind.minimum_effect}" for metric, kind in METRICS.items())
    given = "has(self.metrics[name].minimumEffect)"
    return f"({given} ? self.metrics[name].minimumEffect : {{{defaults}}}[name])"


def _largest_effect_cel() -> str:
    rates = [str(metric) for metric, kind in METRICS.items() if kind.compared == "rate"]
    means = [str(metric) for metric, kind in METRICS.items() if kind.compared == "mean"]
    return f"(name in {rates} ? 1.0 : name in {means} ? self.metrics[name].bound : 1e300)"


# The models refuse these by the validator above, with the numbers; a server needs them as CEL.
RULES: Final[tuple[Rule[Limits], ...]] = (
    *QUERY_RULES,
    Rule(
        name="tolerated-below-minimum-effect",
        scopes=("rollout.analysis",),
        field="metrics",
        holds=lambda _: True,
        cel=f"self.metrics.all(name, self.metrics[name].tolerated < {_minimum_effects_cel()})",
        message="tolerated has to be below the minimum effect; lower it, or raise minimumEffect",
    ),
    Rule(
        name="minimum-effect-can-be-reached",
        scopes=("rollout.analysis",),
        field="metrics",
        holds=lambda _: True,
        cel=f"self.metrics.all(name, {_minimum_effects_cel()} < {_largest_effect_cel()})",
        message="no effect can be as large as minimumEffect; lower it",
    ),
    Rule(
        name="deadline-after-warm-up",
        scopes=("rollout.analysis",),
        field="deadlineSeconds",
        holds=lambda _: True,
        cel="self.deadlineSeconds >= self.warmupSeconds + self.windowSeconds",
        message="deadlineSeconds has to leave one window after the warm-up; raise it",
    ),
)
