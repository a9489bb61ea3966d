"""`spec.training.klToBase` and `forgettingBudget`: how far the model may move from its base."""

from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.rules import Rule


class KlToBase(ApiModel):
    """A penalty on the KL divergence from the base model, over the targets of training rows.

    Forgetting follows this divergence (RL's Razor, Shenfeld et al. 2025, arXiv 2509.04259). The
    reference is the base with the adapters switched off; method full holds a second copy of it.
    """

    weight: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        0.1, description="Times the mean KL(base || tuned) of a target, added to its loss."
    )


class ForgettingBudget(ApiModel):
    """Bounds that stop the run with ForgettingBudgetExceeded, judged at every evaluation."""

    max_general_loss_rise: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        None,
        description="Nats per token by which the loss of the general text may lie above the "
        "base's.",
    )
    max_kl: Annotated[float, Field(gt=0.0, le=100.0)] | None = Field(
        None, description="Mean KL(base || tuned) in nats per target token of the held-out rows."
    )


RULES: Final[tuple[Rule[ForgettingBudget], ...]] = (
    Rule(
        name="budget-has-a-bound",
        scopes=("training.forgettingBudget",),
        field="",
        holds=lambda budget: budget.max_general_loss_rise is not None or budget.max_kl is not None,
        cel="has(self.maxGeneralLossRise) || has(self.maxKl)",
        message="a budget has a bound; give maxGeneralLossRise, maxKl or both",
    ),
)
