"""`spec.dataset.augmentation`: training rows once more, asked in other words."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.endpoint import Endpoint
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Folder, Fraction, Seed
from tunesmith_api.finetunejob import adversarial_prompts as of_adversarial_prompts
from tunesmith_api.finetunejob.adversarial_prompts import AdversarialPrompts
from tunesmith_api.finetunejob.fairness import TermGroup
from tunesmith_api.rules import Rule

# ISO 639, with a variant behind an underscore, as Apertium has it.
Language = Annotated[
    str, StringConstraints(pattern=r"^[a-z]{2,3}(_[A-Za-z]{2,8})?$", max_length=12)
]


class Synonyms(ApiModel):
    """Words replaced by synonyms of WordNet, which is English.

    Part of speech and inflection are kept. Names, numbers, code, quotes and negations stay, and so
    do words that mean several things about as often.
    """

    wordnet: Folder = Field(
        "/usr/share/wordnet",
        description="Folder with WordNet's database, where Debian's package wordnet-base puts it.",
    )
    replaced: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.3, description="Part of the words with a synonym that is replaced; one word at least."
    )


class BackTranslation(ApiModel):
    """Turns translated to another language and back by Apertium, which runs as a process."""

    language: Language = Field("eng", description="Language of the rows, as Apertium calls it.")
    via: Language = Field("spa", description="Language that they are translated to.")
    min_similarity: Fraction = Field(
        0.7,
        description="Texts less like what they were are thrown away: the F-score of character "
        "n-grams (chrF), from 0 to 1.",
    )


class Paraphrase(ApiModel):
    """Turns rewritten by a language model: one request for each."""

    endpoint: Endpoint
    max_new_tokens: Annotated[int, Field(ge=8, le=8192)] = Field(
        512, description="Longest answer, in tokens."
    )
    min_similarity: Fraction = Field(
        0.3,
        description="As that of backTranslation. Good paraphrases have 0.3 to 0.7.",
    )


class Counterfactual(ApiModel):
    """Rows that name one group of people once more, with the terms of each other group.

    Answers are swapped as well, so that the row stays true to itself. `ratio` and `turns` do not
    count here: every row that names one group alone has a child for each other group.
    """

    groups: Annotated[list[TermGroup], Field(max_length=8)] = Field(
        default_factory=list,
        description="Whose terms are swapped. Default: women and men, in English.",
    )
    max_loss_rise: Annotated[
        Annotated[float, Field(gt=0.0, le=20.0)] | None, DecidedLater("no child is scored")
    ] = Field(
        None,
        description="Children are thrown away that the base model finds less likely than their "
        "parents by more than this, in nats per trained token. Default: none is scored.",
    )


class Augmentation(ApiModel):
    """Add children of training rows, whose turns say the same in other words.

    Generators take turns. Children are made behind the split: none of a held-out row, and none
    that asks what a held-out row asks. Texts with other numbers, names, code, quotes or negations
    than they had are thrown away, whoever wrote them.
    """

    ratio: Annotated[float, Field(gt=0.0, le=4.0)] = Field(
        0.5, description="Children for each training row: 0.5 is one of every second row."
    )
    turns: Literal["prompts", "all"] = Field(
        "prompts",
        description="What is put in other words: what users say, or texts and trained answers as "
        "well. A changed answer teaches the changed words.",
    )
    synonyms: Annotated[Synonyms | None, DecidedLater("no synonyms")] = None
    back_translation: Annotated[BackTranslation | None, DecidedLater("no back-translation")] = None
    paraphrase: Annotated[Paraphrase | None, DecidedLater("no paraphrase")] = None
    counterfactual: Annotated[Counterfactual | None, DecidedLater("no swapped rows")] = None
    adversarial: Annotated[AdversarialPrompts | None, DecidedLater("no attacked prompts")] = None
    seed: Seed = Field(0, description="Decides which rows get children, and which words change.")


_GIVEN: Final = ("synonyms", "backTranslation", "paraphrase", "counterfactual", "adversarial")

RULES: Final[tuple[Rule[Any], ...]] = (
    *of_adversarial_prompts.RULES,
    Rule(
        name="counterfactual-groups-correspond",
        scopes=("dataset.augmentation.counterfactual",),
        field="groups",
        holds=lambda counterfactual: (
            not counterfactual.groups
            or (
                len(counterfactual.groups) > 1
                and len({len(group.terms) for group in counterfactual.groups}) == 1
            )
        ),
        cel="!has(self.groups) || self.groups.size() == 0 || (self.groups.size() > 1 && "
        "self.groups.all(one, one.terms.size() == self.groups[0].terms.size()))",
        message="a term is swapped for the one at its place in another group; give two groups or "
        "more, each with as many terms",
    ),
    Rule(
        name="augmentation-has-a-generator",
        scopes=("dataset.augmentation",),
        field="",
        holds=lambda augmentation: (
            augmentation.synonyms is not None
            or augmentation.back_translation is not None
            or augmentation.paraphrase is not None
            or augmentation.counterfactual is not None
            or augmentation.adversarial is not None
        ),
        cel=" || ".join(f"has(self.{name})" for name in _GIVEN),
        message="something has to write the children; give synonyms, backTranslation, "
        "paraphrase, counterfactual or adversarial",
    ),
    Rule(
        name="one-child-of-each-generator",
        scopes=("dataset.augmentation",),
        field="ratio",
        # Where none is given, the rule above says so.
        holds=lambda augmentation: (
            augmentation.synonyms is not None
            or augmentation.ratio <= 1.0
            or (
                (augmentation.back_translation is None) == (augmentation.paraphrase is None)
                and augmentation.ratio <= 2.0  # noqa: PLR2004 - one child of each
            )
        ),
        cel="has(self.synonyms) || self.ratio <= 1.0 || "
        "(has(self.backTranslation) == has(self.paraphrase) && self.ratio <= 2.0)",
        message="backTranslation and paraphrase write one child of a row each; lower ratio, or "
        "give synonyms",
    ),
)
