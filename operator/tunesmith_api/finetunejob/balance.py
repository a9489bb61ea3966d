"""`spec.dataset.balance`: groups of training rows brought to like sizes."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Positive, Seed, ShortText
from tunesmith_api.rules import Rule

# Repeated up to four times, rows teach nearly as much as new ones (arXiv 2305.16264).
DEFAULT_MAX_REPEATS: Final = 4


class Balance(ApiModel):
    """Bring groups of training rows to one size. Held-out rows stay as they are.

    Groups are all combinations of the values of `columns`, of languages and topics, and of the bins
    of `lengths`.
    """

    columns: list[ShortText] = Field(
        default_factory=list,
        max_length=4,
        description="Columns of labels, such as topic or language.",
    )
    lengths: list[Positive] = Field(
        default_factory=list,
        max_length=16,
        description="Tokens at which one bin of lengths ends: [64, 256] makes three bins.",
    )
    languages: bool = Field(
        False,
        description="Group rows by their language, guessed of what the assistant says; where "
        "nothing tells, rows are a group of their own.",
    )
    topics: Annotated[
        Annotated[int, Field(ge=2, le=200)] | None, DecidedLater("no groups by topic")
    ] = Field(
        None,
        description="Group rows into so many clusters of like words (k-means over hashed tf-idf, "
        "by `seed`). Default: no groups by topic.",
    )
    method: Literal["oversample", "undersample", "synthesize"] = Field(
        "oversample",
        description="Repeat rows of small groups up to the size of the largest, leave rows out of "
        "large groups down to the size of the smallest, or let `dataset.synthesis` write new rows "
        "like those of small groups.",
    )
    max_repeats: Annotated[
        Annotated[int, Field(ge=2, le=1000)] | None,
        DecidedLater(str(DEFAULT_MAX_REPEATS), lambda balance: balance.method == "oversample"),
    ] = Field(
        None,
        description="A row stands at most so often among those to train on; with `method: "
        f"oversample`. Default {DEFAULT_MAX_REPEATS}.",
    )
    min_group_rows: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        5,
        description="Groups with fewer rows are left as they are, with a warning: repeated, they "
        "would be learnt by heart, and no other group shall shrink to their size.",
    )
    seed: Seed = Field(
        0, description="Decides which rows are repeated or left out, and how topics begin."
    )

    @property
    def most_copies(self) -> int:
        """How often a row may stand among those to train on."""
        if self.method != "oversample":
            return 1
        return self.max_repeats or DEFAULT_MAX_REPEATS


RULES: Final[tuple[Rule[Balance], ...]] = (
    Rule(
        name="balance-has-groups",
        scopes=("dataset.balance",),
        field="columns",
        holds=lambda balance: bool(
            balance.columns or balance.lengths or balance.languages or balance.topics
        ),
        cel="self.columns.size() > 0 || self.lengths.size() > 0 || self.languages || "
        "has(self.topics)",
        message="groups are those of columns, lengths, languages or topics; give one of them, or "
        "more",
    ),
    Rule(
        name="undersampling-repeats-nothing",
        scopes=("dataset.balance",),
        field="maxRepeats",
        holds=lambda balance: balance.max_repeats is None or balance.method == "oversample",
        cel="!has(self.maxRepeats) || self.method == 'oversample'",
        message="only oversample repeats rows; leave maxRepeats out, or set method: oversample",
    ),
)
