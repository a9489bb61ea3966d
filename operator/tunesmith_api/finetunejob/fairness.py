"""`spec.evaluation.fairness`: suites that measure how a model treats groups of people."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import ShortText
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.suites import OWN_SUITES, SuiteName
from tunesmith_api.rules import Rule

# What is read of a file, and what is made of the job's own held-out rows.
PUBLISHED_KINDS: Final = ("crowsPairs", "winoBias", "bbq")
# What a gate may name of each kind; `gap` is how far the kind's main measures lie from no bias.
FAIRNESS_METRICS: Final = {
    "crowsPairs": ("gap", "stereotypeShare", "logprobGap"),
    "winoBias": ("gap", "stereotypeShare", "logprobGap"),
    "bbq": ("gap", "biasAmbiguous", "biasDisambiguated", "accuracyAmbiguous",
            "accuracyDisambiguated"),
    "counterfactual": ("gap", "lossGap"),
    "classification": ("gap", "demographicParityDifference", "equalizedOddsDifference",
                       "calibrationDifference"),
    "refusals": ("gap", "refusalGap", "emptyShare"),
    "toxicity": ("gap", "toxicityGap", "toxicShare", "emptyShare"),
}  # fmt: skip

# No control characters, and something that is neither a space nor a mark.
Term = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20][^\x00-\x1f]*$", max_length=64)]


class TermGroup(ApiModel):
    """Words that name one group of people; the words at one place in all groups correspond."""

    name: SuiteName
    terms: Annotated[list[Term], Field(min_length=1, max_length=64)]


class Classifier(ApiModel):
    """A sequence classifier that says how likely a text is of one label."""

    model: ModelSource = Field(
        description="Safetensors of a transformers sequence classifier, with its tokenizer. None "
        "is bundled."
    )
    label: ShortText = Field(
        description="Which of its labels says that a text is toxic, as `id2label` has it."
    )


class FairnessSuite(ApiModel):
    """One test, for the base, the tuned and the compressed model."""

    name: SuiteName = Field(description="What the results and the gates call it.")
    kind: Literal[
        "crowsPairs",
        "winoBias",
        "bbq",
        "counterfactual",
        "classification",
        "refusals",
        "toxicity",
    ] = Field(
        description="crowsPairs, winoBias and bbq read files of that format; the others are made "
        "of the held-out rows, with terms swapped."
    )
    source: Annotated[DataSource | None, DecidedLater("the held-out rows")] = Field(
        None, description="The files of a published set. Nothing is fetched from a hub."
    )
    licence: Annotated[ShortText | None, DecidedLater("not stated")] = Field(
        None,
        description="Of the set or the classifier, as the report and the model card state it.",
    )
    limit: Annotated[int, Field(ge=1, le=100_000)] = Field(
        500, description="Most pairs, questions or rows that are scored, evenly spread."
    )
    groups: Annotated[list[TermGroup], Field(max_length=8)] = Field(
        default_factory=list,
        description="Whose terms are looked for in the held-out rows, and swapped. Default: women "
        "and men, in English.",
    )
    positive: Annotated[ShortText | None, DecidedLater("none")] = Field(
        None, description="Of classification: the answer that is good for whoever it is given to."
    )
    classifier: Annotated[Classifier | None, DecidedLater("none")] = Field(
        None, description="Of toxicity: what reads the answers."
    )


class Fairness(ApiModel):
    """Bias, with intervals, corrected for how many suites and groups were looked at."""

    suites: Annotated[list[FairnessSuite], Field(min_length=1, max_length=16)]


_SCOPE: Final = ("evaluation.fairness.suites.*",)
_OWN: Final = ", ".join(f"'{name}'" for name in OWN_SUITES)

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="published-fairness-set-has-source",
        scopes=_SCOPE,
        field="source",
        holds=lambda suite: (suite.kind in PUBLISHED_KINDS) == (suite.source is not None),
        cel="(self.kind in ['crowsPairs', 'winoBias', 'bbq']) == has(self.source)",
        message="crowsPairs, winoBias and bbq read a source, the other kinds the held-out rows; "
        "give source or leave it out",
    ),
    Rule(
        name="classification-has-positive",
        scopes=_SCOPE,
        field="positive",
        holds=lambda suite: (suite.kind == "classification") == (suite.positive is not None),
        cel="(self.kind == 'classification') == has(self.positive)",
        message="classification, and nothing else, counts a positive answer; name it or leave it "
        "out",
    ),
    Rule(
        name="toxicity-has-classifier",
        scopes=_SCOPE,
        field="classifier",
        holds=lambda suite: (suite.kind == "toxicity") == (suite.classifier is not None),
        cel="(self.kind == 'toxicity') == has(self.classifier)",
        message="toxicity, and nothing else, is judged by a classifier; name one or leave it out",
    ),
    Rule(
        name="classifier-has-no-template",
        scopes=("evaluation.fairness.suites.*.classifier",),
        field="model.chatTemplate",
        holds=lambda classifier: classifier.model.chat_template is None,
        cel="!has(self.model.chatTemplate)",
        message="a classifier reads answers as they are; leave chatTemplate out",
    ),
    Rule(
        name="groups-for-held-out-rows",
        scopes=_SCOPE,
        field="groups",
        holds=lambda suite: (
            not suite.groups or (suite.kind not in PUBLISHED_KINDS and len(suite.groups) > 1)
        ),
        cel="!has(self.groups) || self.groups.size() == 0 || (self.groups.size() > 1 && "
        "!(self.kind in ['crowsPairs', 'winoBias', 'bbq']))",
        message="groups are compared with each other in held-out rows; give two or more, of kind "
        "counterfactual, classification, refusals or toxicity",
    ),
    Rule(
        name="groups-have-as-many-terms",
        scopes=_SCOPE,
        field="groups",
        holds=lambda suite: len({len(group.terms) for group in suite.groups}) < 2,  # noqa: PLR2004
        cel="!has(self.groups) || self.groups.all(one, "
        "one.terms.size() == self.groups[0].terms.size())",
        message="a term is swapped for the one at its place in another group; give every group as "
        "many terms",
    ),
    Rule(
        name="fairness-suite-name-is-free",
        scopes=_SCOPE,
        field="name",
        holds=lambda suite: suite.name not in OWN_SUITES,
        cel=f"!(self.name in [{_OWN}])",
        message=f"{', '.join(OWN_SUITES[:-1])} and {OWN_SUITES[-1]} are suites already; choose "
        "another name",
    ),
    Rule(
        name="fairness-suite-names-differ",
        scopes=("evaluation.fairness",),
        field="suites",
        holds=lambda fairness: (
            len({suite.name for suite in fairness.suites}) == len(fairness.suites)
        ),
        cel="self.suites.all(one, self.suites.exists_one(other, other.name == one.name))",
        message="two fairness suites have the same name; give every suite its own",
    ),
)
