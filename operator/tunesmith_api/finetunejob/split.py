"""`spec.dataset.split`: which of the training rows are held out."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import ShortText
from tunesmith_api.rules import Rule


class Split(ApiModel):
    """How `validationFraction` of the rows are chosen.

    Rows with one first question are never on both sides.
    """

    by: Literal["random", "time"] = Field(
        "random",
        description="By the seed, or the newest rows: then none that is trained on is newer.",
    )
    time_column: Annotated[
        ShortText | None, DecidedLater("no time", lambda split: split.by == "time")
    ] = Field(
        None,
        description="Column with the time of a row, as ISO 8601 has it or as a number; with `by: "
        "time`.",
    )
    stratify_by: Annotated[ShortText | None, DecidedLater("no strata")] = Field(
        None,
        description="Column whose values are held out in equal parts, such as a label; with `by: "
        "random`. Default: rows are held out whatever they are.",
    )
    # Not by default: rows of one template are all alike, and one group cannot be split.
    near_duplicates: Literal["together", "apart"] = Field(
        "apart",
        description="Whether rows that are nearly the same, by "
        "cleaning.nearDuplicates.threshold, are on one side: what was trained on with another "
        "word in it makes the held-out loss look better than it is.",
    )


RULES: Final[tuple[Rule[Split], ...]] = (
    Rule(
        name="time-split-has-its-column",
        scopes=("dataset.split",),
        field="timeColumn",
        holds=lambda split: (split.by == "time") == (split.time_column is not None),
        cel="(self.by == 'time') == has(self.timeColumn)",
        message="a split by time needs the column of the time, and no other split reads it; give "
        "by: time and timeColumn, or neither",
    ),
    Rule(
        name="time-split-without-strata",
        scopes=("dataset.split",),
        field="stratifyBy",
        holds=lambda split: split.by != "time" or split.stratify_by is None,
        cel="self.by != 'time' || !has(self.stratifyBy)",
        message="the newest rows are what they are; leave stratifyBy out, or set by: random",
    ),
)
