"""`spec.rollout`: how the next version takes over from the one before, and who decides it."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import NonNegative, Positive
from tunesmith_api.modeldeployment.limits import RULES as LIMIT_RULES
from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.rules import Rule

Strategy = Literal["canary", "shadow", "blueGreen", "recreate"]
Sticky = Literal["none", "conversation", "apiKey"]
Percent = Annotated[int, Field(ge=1, le=100)]


class RolloutStep(ApiModel):
    """A part of the traffic that the candidate gets, and for how long at least."""

    weight: Percent = Field(description="Percent of the requests, or of their copies.")
    seconds: NonNegative = Field(
        60, description="Seconds before the next step. The last one ends with the verdict."
    )


class Rollout(ApiModel):
    """From the stable version to the next."""

    strategy: Annotated[
        Strategy | None, DecidedLater("canary where the proxy can split, else blueGreen")
    ] = Field(
        None,
        description="canary: the candidate gets a growing part of the requests. shadow: it gets "
        "copies, and its answers go nowhere. blueGreen: all requests at once, when it is ready. "
        "recreate: the old replicas go first. Default: canary on a laptop and with `gateway`, else "
        "blueGreen.",
    )
    steps: Annotated[list[RolloutStep], Field(min_length=1, max_length=20)] = Field(
        default_factory=lambda: [
            RolloutStep(weight=5),
            RolloutStep(weight=25),
            RolloutStep(weight=50),
        ],
        description="Of canary and shadow.",
    )
    sticky: Annotated[
        Sticky | None, DecidedLater("conversation on a laptop, none behind a Gateway")
    ] = Field(
        None,
        description="Of canary: whose requests stay with one version. conversation: those with the "
        "same `x-conversation-id`. apiKey: those with the same key. A Gateway splits request by "
        "request, so there a canary is refused with either of them. Default: conversation on a "
        "laptop, else none.",
    )
    analysis: Limits = Field(
        default_factory=Limits, description="What the candidate is judged by, of canary and shadow."
    )
    compare_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.1,
        description="Part of the candidate's requests that stable answers, too, where "
        "`analysis.metrics` has qualityLoss: its answer is scored under the candidate.",
    )
    on_inconclusive: Literal["hold", "promote", "rollback"] = Field(
        "hold",
        description="What follows when `analysis.deadlineSeconds` ends without a verdict. hold: "
        "the last step stays until a person decides or the version changes.",
    )
    paused: bool = Field(
        False,
        description="true holds steps and promotion. A candidate that fails is still taken back.",
    )
    progress_deadline_seconds: Positive = Field(
        1800, description="Seconds that the replicas of a new version may take to get ready."
    )
    drain_seconds: Positive = Field(
        300,
        description="Seconds that running requests of an old version may take until it is stopped.",
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    *LIMIT_RULES,
    Rule(
        name="steps-only-grow",
        scopes=("rollout",),
        field="steps",
        holds=lambda rollout: all(
            before.weight < after.weight
            for before, after in zip(rollout.steps, rollout.steps[1:], strict=False)
        ),
        # CEL has no loop over neighbours; 20 is the most that `steps` may have.
        cel=f"{list(range(19))}.all(i, i + 1 >= self.steps.size() || "
        "self.steps[i].weight < self.steps[i + 1].weight)",
        message="weights of steps have to grow; sort them, and leave equal ones out",
    ),
)
