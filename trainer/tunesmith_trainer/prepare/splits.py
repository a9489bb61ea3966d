"""The splits: rows to learn from, and rows held out.

`stage` calls `split_data` once the rows are tokens. With a validation source of its own, the
training rows that are equal to a validation row are left out: the held-out rows stay as they were
given, so that jobs stay comparable. Without one, the training rows are split.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning import question_key, row_key
from tunesmith_trainer.prepare.tokenization import TokenizedRow

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows of both splits; how many training rows were left out as copies of validation rows."""

    train: list[TokenizedRow]
    validation: list[TokenizedRow]
    num_leaked: int
    warnings: tuple[str, ...]


def split_data(
    train: Sequence[TokenizedRow], validation: Sequence[TokenizedRow] | None, *, dataset: Dataset
) -> Splits:
    """Split `train`, or keep it apart from `validation` where that is given.

    Raises:
        BadInputError: one split would be empty.
    """
    if not train:
        raise _nothing_left("training", "dataset.train")
    if validation is None:
        # The planner has filled it in: there is no validation source.
        fraction = cast("float", dataset.validation_fraction)
        chosen = split_indices(
            [question_key(row.row) for row in train], fraction=fraction, seed=dataset.seed
        )
        learnt, held_out = ([train[index] for index in indices] for indices in chosen)
        return Splits(train=learnt, validation=held_out, num_leaked=0, warnings=())
    if not validation:
        raise _nothing_left("validation", "dataset.validation")
    return _without_leaks(train, validation)


def split_indices(
    keys: Sequence[Key], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of the training rows and of the validation rows, each ascending.

    Rows that share a key go to the same split. The validation split gets whole groups as long as
    they fit into `fraction` of the rows, and at least one group; one group at least stays for
    training.

    Raises:
        BadInputError: all rows share one key, so that one split would be empty.
    """
    groups: dict[Key, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    if len(groups) < 2:  # noqa: PLR2004 - one for each split
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"no validation rows left: the {len(keys)} row(s) that remain share one first "
            "question, and such rows are never on both sides of the split; add rows, or give "
            "dataset.validation",
        )
    # Rounded half up; round() would round half to even, and 2.5 rows to 2.
    wanted = max(1, int(fraction * len(keys) + 0.5))
    shuffled = _shuffled(groups, seed)
    chosen: list[int] = []
    for group in shuffled[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    if not chosen:
        chosen = min(shuffled, key=len)
    held_out = sorted(chosen)
    others = set(range(len(keys))) - set(held_out)
    return sorted(others), held_out


def _shuffled(groups: dict[Key, list[int]], seed: int) -> list[list[int]]:
    # NB: by a digest of seed and key, not by a random generator: the order of the rows in their
    # files does not matter, and the same seed gives the same split on every machine.
    def digest(item: tuple[Key, list[int]]) -> bytes:
        return hashlib.sha256(f"{seed}\0{item[0]!r}".encode("utf-8", "surrogatepass")).digest()

    return [rows for _, rows in sorted(groups.items(), key=digest)]


def _without_leaks(train: Sequence[TokenizedRow], validation: Sequence[TokenizedRow]) -> Splits:
    held_out = {row_key(row.row) for row in validation}
    kept = [row for row in train if row_key(row.row) not in held_out]
    if not kept:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"no training rows left: all {len(train)} are also in dataset.validation; give other "
            "validation rows, or none and dataset.validationFraction",
        )
    leaked = len(train) - len(kept)
    questions = {question_key(row.row) for row in validation}
    shared = sum(question_key(row.row) in questions for row in kept)
    warnings = []
    if leaked:
        warnings.append(f"{leaked} training row(s) left out: they are also in dataset.validation")
    if shared:
        warnings.append(
            f"{shared} training row(s) have the same first question as a validation row; the "
            "held-out loss may look better than it is"
        )
    return Splits(
        train=kept, validation=list(validation), num_leaked=leaked, warnings=tuple(warnings)
    )


def _nothing_left(split: str, field: str) -> BadInputError:
    return BadInputError(
        Reason.DATASET_INVALID,
        f"no {split} rows left: every row of {field} is empty or longer than "
        "training.sequenceLength; check the rows, or raise training.sequenceLength",
    )
