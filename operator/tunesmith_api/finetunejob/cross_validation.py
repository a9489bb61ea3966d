"""`spec.crossValidation`: how well these settings do on rows that they were not trained on."""

from typing import Annotated, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel


class CrossValidation(ApiModel):
    """k-fold: as many runs, each over all training rows but its own part, which it is measured on.

    The rows that `dataset` holds out are in no fold.
    """

    folds: Annotated[int, Field(ge=2, le=50)] = 5
    groups: Literal["questions", "nearDuplicates"] = Field(
        "questions",
        description="Which rows are always in one fold. questions: those with one first question, "
        "and what augmentation made of a row with that row. nearDuplicates: also rows that are "
        "nearly the same, by cleaning.nearDuplicates.threshold.",
    )
    stratify: Literal["none", "answers"] = Field(
        "none",
        description="answers: each answer is as frequent in every fold, as far as groups let it; "
        "for rows whose answers are classes.",
    )
    parallel: Annotated[int, Field(ge=1, le=50)] = Field(
        1,
        description="Folds at a time. They share the processors, or each has an accelerator of "
        "the job's.",
    )
    refit: bool = Field(
        True,
        description="Train on all rows for as many passes as were best in the median fold. false: "
        "as long as `training` says.",
    )
