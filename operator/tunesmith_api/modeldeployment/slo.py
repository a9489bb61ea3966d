"""`spec.slo`: what a deployment promises over 30 days, and how much of it may fail.

Burn-rate alerts are made from it. A share of quick requests is exact only where the histograms have
a boundary at the threshold, so thresholds are chosen among the boundaries.
"""

from bisect import bisect
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.rules import Rule

# Below 0.9 no outage could burn fast enough for the first alert: 14.4 times 0.1 is more than all.
Objective = Annotated[float, Field(ge=0.9, le=0.99999)]
# Seconds, 1 ms to 100 s: those that OpenTelemetry recommends for generative models, and as many
# between them that people find the one they mean. Were thresholds free, each change of an SLO would
# need new replicas, and what was counted before would say nothing.
BOUNDARIES: Final = (
    *(
        round(step * 10.0**power, 6)
        for power in range(-3, 2)
        for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 8)
    ),
    100.0,
)


def _on_a_boundary(seconds: float) -> float:
    if seconds not in BOUNDARIES:
        place = bisect(BOUNDARIES, seconds)
        near = " or ".join(f"{each:g}" for each in BOUNDARIES[max(0, place - 1) : place + 1])
        raise ValueError(f"{seconds:g} is no boundary of the histograms; give {near}")
    return seconds


Threshold = Annotated[
    float, AfterValidator(_on_a_boundary), Field(json_schema_extra={"enum": list(BOUNDARIES)})
]


class Availability(ApiModel):
    """Answers that are complete, among the requests that deserved one."""

    objective: Objective = Field(
        0.999, description="Share of the requests that have to get a complete answer."
    )


class Latency(ApiModel):
    """A time that most requests have to keep."""

    seconds: Threshold = Field(
        description="Longest time that counts as kept, 0.001 to 100: a "
        "power of ten times 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5 or 8."
    )
    objective: Objective = Field(
        0.99, description="Share of the requests that have to be as quick as that."
    )


class ServiceLevelObjectives(ApiModel):
    """What is promised, over 30 days; each that is given has alerts and an error budget."""

    availability: Annotated[Availability | None, DecidedLater("nothing is promised")] = None
    ttft: Annotated[Latency | None, DecidedLater("nothing is promised")] = Field(
        None, description="Time to the first token."
    )
    itl: Annotated[Latency | None, DecidedLater("nothing is promised")] = Field(
        None, description="Mean time between the tokens of an answer."
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="slo-promises-something",
        scopes=("slo",),
        field="",
        holds=lambda slo: any((slo.availability, slo.ttft, slo.itl)),
        cel="has(self.availability) || has(self.ttft) || has(self.itl)",
        message="slo promises nothing; give availability, ttft or itl, or leave slo out",
    ),
)
