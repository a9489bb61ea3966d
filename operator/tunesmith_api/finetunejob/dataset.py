"""`spec.dataset`: the rows, how they are read, and what is done for their quality."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.field_types import Seed, ShortText
from tunesmith_api.finetunejob.augmentation import Augmentation
from tunesmith_api.finetunejob.balance import Balance
from tunesmith_api.finetunejob.cleaning import Cleaning
from tunesmith_api.finetunejob.data_source import DataFormat, DataSource
from tunesmith_api.finetunejob.replay import Replay
from tunesmith_api.finetunejob.split import Split
from tunesmith_api.finetunejob.synthesis import Synthesis
from tunesmith_api.rules import Rule

DEFAULT_VALIDATION_FRACTION: Final = 0.1
# All of them are listed; where more are bad, the data is no data.
MOST_BAD_ROWS: Final = 1000
MOST_CARD_ROWS: Final = 10


class Dataset(ApiModel):
    """Training rows, validation rows, and how to read them."""

    train: DataSource
    validation: DataSource | None = Field(
        None, description="Rows to validate on. Default: a seeded part of the training rows."
    )
    validation_fraction: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None,
        PlannedDefault(),
    ] = Field(
        None,
        description="Part of the training rows held out. "
        f"Default {DEFAULT_VALIDATION_FRACTION}; not with `validation`.",
    )
    format: DataFormat = Field(
        "auto", description="Shape of a row; `auto` decides from the fields of the first rows."
    )
    columns: dict[ShortText, ShortText] = Field(
        default_factory=dict,
        max_length=20,
        description="Names in the data for the names of the format, such as prompt: question.",
    )
    rationale: Annotated[ShortText | None, DecidedLater("no rationales")] = Field(
        None,
        description="Column that says why the answer of a row is right, for training.explanation; "
        "rows may lack it.",
    )
    highlights: Annotated[ShortText | None, DecidedLater("no highlights")] = Field(
        None,
        description="Column that says which parts of a row's prompt are the reason of its answer: "
        "words as the prompt has them, or [start, end] in characters of what the user says last; "
        "one, or a list. Rows may lack it. Held-out rows tell how much of what moves the answer "
        "lies on them; training.explanation with method: attribution learns from the others.",
    )
    overlong: Literal["drop", "fail", "truncatePrompt"] = Field(
        "drop",
        description="Rows longer than training.sequenceLength: leave out (and count), "
        "refuse, or cut the oldest "
        "prompt tokens. Answers are never cut.",
    )
    max_bad_rows: Annotated[int, Field(ge=0, le=MOST_BAD_ROWS)] = Field(
        0,
        description="Rows that may break a rule: so many are skipped, each listed with file, line "
        "and rule in the data card; one more, and the data is refused. A file that is damaged as a "
        "whole is always refused.",
    )
    card_rows: Annotated[int, Field(ge=0, le=MOST_CARD_ROWS)] = Field(
        0,
        description="Training rows that the data card shows as they are. It is published with the "
        "model, and by default it holds numbers and no row.",
    )
    cleaning: Cleaning = Cleaning()
    replay: Annotated[Replay | None, DecidedLater("no replay")] = Field(
        None,
        description="Mix general rows into training, against forgetting. Default: no replay.",
    )
    split: Annotated[Split | None, DecidedLater("at random")] = Field(
        None,
        description="How the rows to hold out are chosen; not with `validation`. "
        "Default: at random.",
    )
    augmentation: Annotated[Augmentation | None, DecidedLater("no augmentation")] = Field(
        None,
        description="Train on some rows once more, asked in other words. Default: no augmentation.",
    )
    synthesis: Annotated[Synthesis | None, DecidedLater("no synthesis")] = Field(
        None,
        description="Train on new rows as well, which a language model writes. "
        "Default: no synthesis.",
    )
    balance: Annotated[Balance | None, DecidedLater("rows as they come")] = Field(
        None,
        description="Bring groups of training rows to like sizes. Default: rows as they come.",
    )
    # Apart from training.seed: another training is judged on the same held-out rows.
    seed: Seed = Field(0, description="Seed of the split.")

    def with_defaults(self) -> Self:
        """With `validation_fraction` filled in where no rows of their own are given to hold out."""
        if self.validation is not None or self.validation_fraction is not None:
            return self
        return self.model_copy(update={"validation_fraction": DEFAULT_VALIDATION_FRACTION})


RULES: Final[tuple[Rule[Dataset], ...]] = (
    Rule(
        name="validation-or-fraction",
        scopes=("dataset",),
        field="validationFraction",
        holds=lambda dataset: dataset.validation is None or dataset.validation_fraction is None,
        cel="!has(self.validation) || !has(self.validationFraction)",
        message="validation and validationFraction both say what is held out; give one of them",
    ),
    Rule(
        name="validation-or-split",
        scopes=("dataset",),
        field="split",
        holds=lambda dataset: dataset.validation is None or dataset.split is None,
        cel="!has(self.validation) || !has(self.split)",
        message="with validation there is nothing to split; leave split out, or validation",
    ),
    Rule(
        name="answers-fill-no-group",
        scopes=("dataset",),
        field="synthesis.methods",
        holds=lambda dataset: (
            dataset.balance is None
            or dataset.balance.method != "synthesize"
            or dataset.synthesis is None
            or "answers" not in dataset.synthesis.methods
        ),
        cel="!has(self.balance) || self.balance.method != 'synthesize' || !has(self.synthesis) || "
        "self.synthesis.methods.all(method, method != 'answers')",
        message="answers to rows' own questions fill no group that lacks some; leave answers out, "
        "or choose oversample",
    ),
    Rule(
        name="balance-by-synthesis",
        scopes=("dataset",),
        field="balance.method",
        holds=lambda dataset: (
            dataset.balance is None
            or dataset.balance.method != "synthesize"
            or dataset.synthesis is not None
        ),
        cel="!has(self.balance) || self.balance.method != 'synthesize' || has(self.synthesis)",
        message="dataset.synthesis writes the rows that groups lack; give it, or choose oversample",
    ),
)
