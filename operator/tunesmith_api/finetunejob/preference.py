"""`spec.training.dpo`: how the model learns from pairs of a chosen and a rejected answer."""

from typing import Annotated, Any, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.rules import Rule

# Measured of held-out pairs, and of nothing else.
PREFERENCE_METRICS: Final = ("margin", "accuracy", "rankingAccuracy")


class Dpo(ApiModel):
    """Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290)."""

    beta: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        0.1, description="How closely the model is held to the base: higher is closer."
    )
    # A pair whose label is wrong half of the time teaches nothing. NB: not lt=0.5. For a whole
    # number the API server cuts the bound to a whole number, and 0 is not less than 0.
    label_smoothing: Annotated[float, Field(ge=0.0, le=0.49)] = Field(
        0.0, description="Part of the pairs that may be labelled the wrong way round (cDPO)."
    )
    sft_weight: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0,
        description="Weight of the chosen answer's own loss, in nats per token, which keeps it "
        "likely (RPO, arXiv 2404.19733).",
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="preference-rows-and-objective",
        scopes=("",),
        field="dataset.format",
        # What `auto` is, only the rows tell: prepare holds them to the same rule.
        holds=lambda spec: (
            spec.dataset.format == "auto"
            or (spec.dataset.format == "preference") == (spec.training.objective == "dpo")
        ),
        cel="self.dataset.format == 'auto' || "
        "(self.dataset.format == 'preference') == (self.training.objective == 'dpo')",
        message="rows of format preference and training.objective: dpo belong together; set both, "
        "or neither",
    ),
    Rule(
        name="preference-gates-and-objective",
        scopes=("",),
        field="evaluation.gates",
        holds=lambda spec: (
            spec.training.objective == "dpo"
            or all(gate.suite != "preference" for gate in spec.evaluation.gates or ())
        ),
        cel="self.training.objective == 'dpo' || !has(self.evaluation.gates) || "
        "self.evaluation.gates.all(gate, gate.suite != 'preference')",
        message="the suite preference is measured with training.objective: dpo only; choose "
        "heldOut or general",
    ),
    Rule(
        name="dpo-without-remedies-of-sft",
        scopes=("training",),
        field="objective",
        holds=lambda training: (
            training.objective != "dpo"
            or (
                training.regularization.label_smoothing == 0
                and training.regularization.neftune_noise_alpha == 0
                and training.regularization.embedding_dropout == 0
                and training.kl_to_base is None
                and training.adversarial is None
            )
        ),
        cel="self.objective != 'dpo' || (self.regularization.labelSmoothing == 0.0 && "
        "self.regularization.neftuneNoiseAlpha == 0.0 && "
        "self.regularization.embeddingDropout == 0.0 && !has(self.klToBase) && "
        "!has(self.adversarial))",
        message="dpo has its own: leave labelSmoothing, neftuneNoiseAlpha, embeddingDropout, "
        "klToBase and adversarial out, and set dpo.labelSmoothing or dpo.beta",
    ),
    Rule(
        name="dpo-without-packing",
        scopes=("training",),
        field="packing",
        holds=lambda training: training.objective != "dpo" or training.packing != "bfd",
        cel="self.objective != 'dpo' || self.packing != 'bfd'",
        message="pairs are not packed; leave packing out, or choose objective: sft",
    ),
    Rule(
        name="dpo-without-replay",
        scopes=("",),
        field="dataset.replay",
        holds=lambda spec: spec.training.objective != "dpo" or spec.dataset.replay is None,
        cel="self.training.objective != 'dpo' || !has(self.dataset.replay)",
        message="replay rows are no pairs; leave dataset.replay out, and raise dpo.beta to stay "
        "closer to the base",
    ),
)
