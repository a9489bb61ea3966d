"""`spec.dataset.cleaning`: what is looked for in the rows, and what is done about it.

Each rule has a policy. `warn` counts the rows and names them in the audit file, `keep` does not
look. By default nothing is removed but what is surely worthless (empty answers, exact copies), and
nothing is changed but text that was encoded twice.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Seed
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.rules import Rule

Policy = Literal["remove", "warn", "keep"]
RepairPolicy = Literal["repair", "warn", "keep"]
SensitivePolicy = Literal["remove", "mask", "fail", "warn", "keep"]
PersonalDataKind = Literal["email", "phone", "iban", "creditCard", "ipAddress"]
PresidioEntity = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=63)]
# As spaCy calls its packages: language, kind, genre, size.
SpacyPipeline = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}_[a-z0-9_]+$", max_length=63)]
Language = Literal[
    "ar", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "it", "ja", "ko", "nl", "no", "pl",
    "pt", "ru", "sv", "th", "tr", "uk", "zh",
]  # fmt: skip


class NearDuplicates(ApiModel):
    """Rows that differ in a few words: the first of them stays.

    MinHash over pairs of words finds the suspects (Broder 1997), their Jaccard similarity decides.
    """

    policy: Policy = "warn"
    threshold: Annotated[float, Field(ge=0.3, le=1.0)] = Field(
        0.6,
        description="Least Jaccard similarity. Of copies in which a tenth of the words is another "
        "0.6 finds nine of ten; 0.8 finds those with hardly a word changed.",
    )
    seed: Seed = Field(0, description="Seed of the hash functions.")


class Contamination(ApiModel):
    """Training rows that hold a row of `dataset.validation`, or of a benchmark: they go."""

    policy: Policy = "warn"
    ngram: Annotated[int, Field(ge=2, le=50)] = Field(
        8, description="Words in a row that are compared (PaLM, Chowdhery et al. 2022)."
    )
    overlap: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.3, description="Least part of a held-out row's n-grams that one training row holds."
    )
    against: Annotated[list[DataSource], Field(max_length=16)] = Field(
        default_factory=list,
        description="Files with the rows of benchmarks, beside `dataset.validation`; every text "
        "in a row counts, whatever its columns are called.",
    )


class LabelErrors(ApiModel):
    """Answers that are classes, and of which the others' words say that another class is right.

    Confident learning (Northcutt et al. 2021) over held-out probabilities of a classifier of the
    words. It says nothing where fewer than eight of ten answers are classes, with ten rows or more
    each, or where the words tell fewer than eight of ten of them.
    """

    policy: Policy = Field(
        "keep",
        description="Of planted errors it found five to seven of ten, and six to nine of ten that "
        "it suspected were errors: look at them before you remove any.",
    )
    seed: Seed = Field(0, description="Decides which rows are in which fold.")


class UnlikelyAnswers(ApiModel):
    """Answers that the base model finds no likelier behind their own prompt than behind others'.

    The instruction-following difficulty of Li et al. 2024, with other rows' prompts in place of
    none. Of fewer than 50 rows, and where that is so of more than a fifth, it suspects none.
    """

    policy: Policy = Field(
        "keep",
        description="Of answers that were swapped among questions it found six of ten, and seven "
        "of ten that it suspected were swapped: look at them before you remove any.",
    )
    prompts: Annotated[int, Field(ge=1, le=16)] = Field(
        4,
        description="Other rows' prompts that each answer is tried behind: the base model reads "
        "all rows as often, and once more.",
    )
    seed: Seed = Field(0, description="Draws the other prompts.")


class Repair(ApiModel):
    """Text that was damaged on its way."""

    mojibake: RepairPolicy = Field(
        "repair", description="UTF-8 that was read as Windows-1252 or Latin-1, such as â€™ for ’."
    )
    normalization: RepairPolicy = Field(
        "warn", description="Bring text into the form NFC, and take control characters out."
    )


class Noise(ApiModel):
    """Rows that teach what nobody wants to be answered."""

    boilerplate: Policy = Field("warn", description="Words of web pages: cookies, subscriptions.")
    broken_markup: Policy = Field("warn", description="HTML tags that are never closed, entities.")
    unbalanced_fences: Policy = Field("warn", description="A code block that is never closed.")
    truncated_answers: Policy = Field("warn", description="The last answer stops in a sentence.")
    echo_answers: Policy = Field("warn", description="The answer repeats the question.")
    refusals: Policy = Field("warn", description="The answer is a model's refusal, in English.")
    binary_text: Policy = Field(
        "warn", description="A twentieth of it is no text, or 10,000 characters have no space."
    )
    length_outliers: Policy = Field(
        "warn",
        description="Answers whose length is far from that of the others: 5 times the median "
        "absolute deviation of its logarithm, from 50 rows on.",
    )
    other_languages: Policy = Field("warn", description="Answers in none of `languages`.")
    languages: Annotated[list[Language], Field(max_length=23)] = Field(
        default_factory=list,
        description="Codes of the languages of the answers. Default: any, so that no answer is in "
        "another one. Only answers are judged that are long enough to tell.",
    )


class Uniformity(ApiModel):
    """Differences in form that mean nothing."""

    white_space: RepairPolicy = Field(
        "keep",
        description="Spaces at the ends of lines and turns, other line ends, more than one empty "
        "line. Code blocks stay as they are.",
    )
    roles: Policy = Field("warn", description="Conversations that do not begin with the user.")
    system_prompts: RepairPolicy = Field(
        "warn",
        description="System prompts that differ from a more frequent one in case, punctuation or "
        "white space alone; repaired, they become that one.",
    )


class Presidio(ApiModel):
    """What Microsoft's Presidio finds beside `kinds`.

    It takes the extra `presidio` beside the trainer, and a millisecond or more a text.
    """

    entities: Annotated[list[PresidioEntity], Field(min_length=1, max_length=64)] = Field(
        description="Presidio's names of what is looked for: US_SSN, UK_NHS, CRYPTO. PERSON and "
        "LOCATION take a pipeline."
    )
    language: Language = "en"
    pipeline: Annotated[SpacyPipeline | None, DecidedLater("patterns and their context alone")] = (
        Field(
            None,
            description="An installed spaCy pipeline that finds names: en_core_web_lg. Default: "
            "none, so that patterns and their context alone are looked for.",
        )
    )
    min_score: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.4,
        description="How sure Presidio has to be. A form that much else has too counts as little "
        "as 0.05, and 0.35 more with a word such as 'passport' near it.",
    )


class PersonalData(ApiModel):
    """What belongs to a person: found by form, and by check digit where there is one."""

    policy: SensitivePolicy = Field(
        "warn", description="mask writes [EMAIL] and the like; fail refuses the data."
    )
    kinds: Annotated[list[PersonalDataKind], Field(min_length=1, max_length=5)] = Field(
        ["email", "phone", "iban", "creditCard", "ipAddress"]
    )
    presidio: Annotated[Presidio | None, DecidedLater("not asked")] = None


class Cleaning(ApiModel):
    """What is done about bad rows before the split.

    What is removed or changed is counted in the data card; the audit file beside it names rule and
    row. Rows of `dataset.validation` are repaired and masked as the others are, and lose empty rows
    and copies; else they stay as they are, so that jobs stay comparable.
    """

    exact_duplicates: Literal["remove", "keep"] = Field(
        "remove", description="Rows with the same conversation: keep the first, or keep all."
    )
    empty_rows: Literal["remove", "fail"] = Field(
        "remove", description="Rows whose answers are empty: leave them out, or refuse the data."
    )
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    conflicting_answers: Policy = Field(
        "warn",
        description="Rows with one prompt, of three words or more, and different answers: the "
        "answer that most give stays, none where no answer leads.",
    )
    label_errors: LabelErrors = LabelErrors()
    unlikely_answers: UnlikelyAnswers = UnlikelyAnswers()
    repair: Repair = Repair()
    noise: Noise = Noise()
    uniformity: Uniformity = Uniformity()
    secrets: SensitivePolicy = Field(
        "warn",
        description="Keys, tokens and passwords, by the forms that their issuers give them; mask "
        "writes [SECRET], fail refuses the data.",
    )
    personal_data: PersonalData = PersonalData()


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="other-languages-than-some",
        scopes=("dataset.cleaning.noise",),
        field="languages",
        holds=lambda noise: noise.other_languages != "remove" or bool(noise.languages),
        cel="self.otherLanguages != 'remove' || (has(self.languages) && size(self.languages) > 0)",
        message="otherLanguages is remove; name the languages that stay",
    ),
)
