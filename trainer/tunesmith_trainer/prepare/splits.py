"""The two sides of the data: rows to learn from, and rows held out.

With a validation source of its own, the training rows that are equal to a validation row are left
out: the held-out rows stay as they were given, so that jobs stay comparable. Without one, the
training rows are split.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning import question_key, row_key
from tunesmith_trainer.data.splitting import split_rows
from tunesmith_trainer.prepare.tokenization import Tokenized

DEFAULT_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class Sides:
    """Rows of both sides; how many training rows were left out as copies of validation rows."""

    train: list[Tokenized]
    validation: list[Tokenized]
    num_leaked: int
    warnings: tuple[str, ...]


def part_rows(
    train: Sequence[Tokenized], validation: Sequence[Tokenized] | None, *, dataset: Dataset
) -> Sides:
    """Split `train`, or keep it apart from `validation` where that is given.

    Raises:
        BadInputError: one side would be empty.
    """
    if not train:
        raise _nothing_left("training", "dataset.train")
    if validation is None:
        fraction = dataset.validation_fraction or DEFAULT_FRACTION
        chosen = split_rows(
            [question_key(each.row) for each in train], fraction=fraction, seed=dataset.seed
        )
        learnt, held_out = ([train[at] for at in side] for side in chosen)
        return Sides(train=learnt, validation=held_out, num_leaked=0, warnings=())
    if not validation:
        raise _nothing_left("validation", "dataset.validation")
    return _kept_apart(train, validation)


def _kept_apart(train: Sequence[Tokenized], validation: Sequence[Tokenized]) -> Sides:
    held_out = {row_key(each.row) for each in validation}
    kept = [each for each in train if row_key(each.row) not in held_out]
    if not kept:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"no training rows left: all {len(train)} are also in dataset.validation; give other "
            "validation rows, or none and dataset.validationFraction",
        )
    leaked = len(train) - len(kept)
    questions = {question_key(each.row) for each in validation}
    shared = sum(question_key(each.row) in questions for each in kept)
    warnings = []
    if leaked:
        warnings.append(f"{leaked} training row(s) left out: they are also in dataset.validation")
    if shared:
        warnings.append(
            f"{shared} training row(s) have the same first question as a validation row; the "
            "held-out loss may look better than it is"
        )
    return Sides(
        train=kept, validation=list(validation), num_leaked=leaked, warnings=tuple(warnings)
    )


def _nothing_left(side: str, field: str) -> BadInputError:
    return BadInputError(
        Reason.DATASET_INVALID,
        f"no {side} rows left: every row of {field} is empty or longer than "
        "training.sequenceLength; check the rows, or raise training.sequenceLength",
    )
