"""`spec.training.explanation`: learn to say why, beside what."""

from typing import Annotated, Any, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import ShortText
from tunesmith_api.rules import Rule


class ExplanationObjective(ApiModel):
    """Rationales beside answers (Hsieh et al. 2023, "Distilling step-by-step", arXiv 2305.02301).

    A row with a rationale is learnt twice: its answer as it is, and the rationale where the
    `instruction` follows the prompt. What the model is asked later needs no rationale, and costs
    nothing more.
    """

    label_weight: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5,
        description="Of the mean loss of answers; that of rationales has the rest. Both are means "
        "over their own tokens.",
    )
    instruction: ShortText = Field(
        "Explain step by step how you get to your answer.",
        description="Put behind what the last user says, where the rationale is wanted.",
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="explanation-stands-alone",
        scopes=("training",),
        field="explanation",
        holds=lambda training: (
            training.explanation is None
            or (
                training.objective == "sft"
                and training.adversarial is None
                and training.kl_to_base is None
                and training.fairness is None
            )
        ),
        cel="!has(self.explanation) || (self.objective == 'sft' && !has(self.adversarial) && "
        "!has(self.klToBase) && !has(self.fairness))",
        message="explanation changes the loss of sft by itself; leave adversarial, klToBase and "
        "fairness out, and choose objective: sft",
    ),
    Rule(
        name="rationales-for-explanation",
        scopes=("",),
        field="dataset.rationale",
        holds=lambda spec: (spec.dataset.rationale is None) == (spec.training.explanation is None),
        cel="has(self.dataset.rationale) == has(self.training.explanation)",
        message="training.explanation learns from the column that dataset.rationale names, and "
        "nothing else reads it; give both, or neither",
    ),
)
