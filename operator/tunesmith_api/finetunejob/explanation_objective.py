"""`spec.training.explanation`: learn to say why, or to decide by what people decide by."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import ShortText
from tunesmith_api.rules import Rule

DEFAULT_LABEL_WEIGHT: Final = 0.5
DEFAULT_INSTRUCTION: Final = "Explain step by step how you get to your answer."
DEFAULT_ATTRIBUTION_WEIGHT: Final = 1.0
# What results and gates call the suite, and its one metric.
HIGHLIGHTS: Final = "highlights"
HIGHLIGHT_SHARE: Final = "highlightShare"


class ExplanationObjective(ApiModel):
    """What a model learns beside the answers: to say why, or to decide by what people highlighted.

    rationales (Hsieh et al. 2023, "Distilling step-by-step", arXiv 2305.02301): a row with a
    rationale is learnt twice, its answer as it is, and the rationale where the `instruction`
    follows the prompt. attribution (Ross et al. 2017, "Right for the right reasons", arXiv
    1703.03717; Erion et al. 2021, arXiv 1906.10670): a penalty on the gradients of the answer's
    log-probability outside of what a row highlights. What the model is asked later needs neither,
    and costs nothing more.
    """

    method: Literal["rationales", "attribution"] = Field(
        "rationales",
        description="rationales: those of dataset.rationale are learnt beside the answers. "
        "attribution: the words of a prompt that move the answer are held to dataset.highlights, "
        "by gradients that are differentiated once more.",
    )
    label_weight: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None,
        DecidedLater(
            f"{DEFAULT_LABEL_WEIGHT:g}", applies=lambda given: given.method == "rationales"
        ),
    ] = Field(
        None,
        description="With rationales: of the mean loss of answers; that of rationales has the "
        f"rest. Both are means over their own tokens. Default: {DEFAULT_LABEL_WEIGHT:g}.",
    )
    instruction: Annotated[
        ShortText | None,
        DecidedLater(DEFAULT_INSTRUCTION, applies=lambda given: given.method == "rationales"),
    ] = Field(
        None,
        description="With rationales: put behind what the last user says, where the rationale is "
        f"wanted. Default: {DEFAULT_INSTRUCTION}",
    )
    weight: Annotated[
        Annotated[float, Field(gt=0.0, le=1000.0)] | None,
        DecidedLater(
            f"{DEFAULT_ATTRIBUTION_WEIGHT:g}", applies=lambda given: given.method == "attribution"
        ),
    ] = Field(
        None,
        description="With attribution: times the mean share, from 0 to 1, of a row's squared "
        "gradients that lies outside of its highlights, added to the mean loss of answers. "
        f"Default: {DEFAULT_ATTRIBUTION_WEIGHT:g}.",
    )

    @property
    def learns_rationales(self) -> bool:
        """Whether rationales are learnt; else attributions are held to highlights."""
        return self.method == "rationales"

    @property
    def part_of_answers(self) -> float:
        """`label_weight`, or what it is by default."""
        return DEFAULT_LABEL_WEIGHT if self.label_weight is None else self.label_weight

    @property
    def asked(self) -> str:
        """`instruction`, or what it is by default."""
        return DEFAULT_INSTRUCTION if self.instruction is None else self.instruction

    @property
    def penalty(self) -> float:
        """`weight`, or what it is by default."""
        return DEFAULT_ATTRIBUTION_WEIGHT if self.weight is None else self.weight


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
        name="rationales-are-weighed",
        scopes=("training.explanation",),
        field="labelWeight",
        holds=lambda given: (
            given.method == "rationales"
            or (given.label_weight is None and given.instruction is None)
        ),
        cel="self.method == 'rationales' || (!has(self.labelWeight) && !has(self.instruction))",
        message="attribution learns no rationales; leave labelWeight and instruction out, or "
        "choose method: rationales",
    ),
    Rule(
        name="attributions-are-weighed",
        scopes=("training.explanation",),
        field="weight",
        holds=lambda given: given.method == "attribution" or given.weight is None,
        cel="self.method == 'attribution' || !has(self.weight)",
        message="rationales are weighed by labelWeight; leave weight out, or choose method: "
        "attribution",
    ),
    # Second derivatives go around the hooks by which FSDP sums gradients, and the compiler makes
    # kernels with first ones alone.
    Rule(
        name="attributions-are-differentiated-twice",
        scopes=("training",),
        field="explanation.method",
        holds=lambda training: (
            training.explanation is None
            or training.explanation.method != "attribution"
            or (training.parallelism != "fsdp" and not training.compile)
        ),
        cel="!has(self.explanation) || self.explanation.method != 'attribution' || "
        "(self.parallelism != 'fsdp' && !self.compile)",
        message="attribution is differentiated twice, which neither compiled layers nor shards "
        "are; leave compile out and choose parallelism: ddp, or method: rationales",
    ),
    Rule(
        name="rationales-for-explanation",
        scopes=("",),
        field="dataset.rationale",
        holds=lambda spec: (
            (spec.dataset.rationale is not None)
            == (
                spec.training.explanation is not None
                and spec.training.explanation.method == "rationales"
            )
        ),
        cel="has(self.dataset.rationale) == (has(self.training.explanation) && "
        "self.training.explanation.method == 'rationales')",
        message="training.explanation with method: rationales learns from the column that "
        "dataset.rationale names, and nothing else reads it; give both, or neither",
    ),
    Rule(
        name="highlights-for-attribution",
        scopes=("",),
        field="dataset.highlights",
        holds=lambda spec: (
            spec.dataset.highlights is not None
            or spec.training.explanation is None
            or spec.training.explanation.method != "attribution"
        ),
        cel="has(self.dataset.highlights) || !has(self.training.explanation) || "
        "self.training.explanation.method != 'attribution'",
        message="attribution is held to the column that dataset.highlights names; give it, or "
        "choose method: rationales",
    ),
    Rule(
        name="highlights-of-one-answer",
        scopes=("",),
        field="dataset.highlights",
        holds=lambda spec: spec.dataset.highlights is None or spec.training.objective == "sft",
        cel="!has(self.dataset.highlights) || self.training.objective == 'sft'",
        message="highlights are the reasons of one answer, and dpo learns from two; leave them "
        "out, or choose objective: sft",
    ),
    Rule(
        name="highlight-gates-and-highlights",
        scopes=("",),
        field="evaluation.gates",
        holds=lambda spec: (
            spec.dataset.highlights is not None
            or all(gate.suite != HIGHLIGHTS for gate in spec.evaluation.gates or ())
        ),
        cel="has(self.dataset.highlights) || !has(self.evaluation.gates) || "
        f"self.evaluation.gates.all(gate, gate.suite != '{HIGHLIGHTS}')",
        message="the suite highlights is measured where dataset.highlights names a column only; "
        "give it, or choose heldOut or general",
    ),
)
