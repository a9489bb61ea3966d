"""`spec.slo`: what a deployment promises over 30 days, and how much of it may fail.

Burn-rate alerts are made from it, and replicas count latencies with a boundary at each threshold.
"""

from typing import Annotated, Any, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.rules import Rule

# Below 0.9 no outage could burn fast enough for the first alert: 14.4 times 0.1 is more than all.
Objective = Annotated[float, Field(ge=0.9, le=0.99999)]
# A millisecond to ten minutes, the range of the histograms.
Threshold = Annotated[float, Field(ge=0.001, le=600)]


class Availability(ApiModel):
    """Answers that are complete, among the requests that deserved one."""

    objective: Objective = Field(
        0.999, description="Share of the requests that have to get a complete answer."
    )


class Latency(ApiModel):
    """A time that most requests have to keep."""

    seconds: Threshold = Field(description="Longest time that counts as kept.")
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
