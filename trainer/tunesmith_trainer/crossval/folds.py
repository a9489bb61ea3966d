"""Which rows are in which fold: whole groups, each answer as often in every fold as can be. Pure.

Groups are dealt out, the largest first, to the fold that has the fewest rows of the group's answer,
and of those that are alike to the smallest one. Equal groups are in the order of a digest, so that
the order of the rows in their files does not matter.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError


def folds_of(
    groups: Sequence[Hashable], answers: Sequence[str], *, num_folds: int, seed: int
) -> list[list[int]]:
    """The rows of each fold, ascending; `answers` are the strata, all alike without any.

    Raises:
        BadInputError: there are fewer groups than folds, in all or with some answer.
    """
    rows_of: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    if len(rows_of) < num_folds:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"crossValidation.folds: {num_folds} folds of {len(groups)} training rows in "
            f"{len(rows_of)} group(s), which are never parted; give at most {len(rows_of)}, or "
            "more rows",
        )
    answer_of = {
        group: _most_common(answers[row] for row in rows) for group, rows in rows_of.items()
    }
    _refuse_rare(Counter(answer_of.values()), num_folds=num_folds)
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(num_folds)]
    for group in sorted(rows_of, key=lambda each: (-len(rows_of[each]), _digest(each, seed))):
        answer, rows = answer_of[group], rows_of[group]
        least = min(
            range(num_folds), key=lambda fold: (counts[fold][answer], len(folds[fold]), fold)
        )
        folds[least] += rows
        counts[least][answer] += len(rows)
    return [sorted(fold) for fold in folds]


def _refuse_rare(num_groups: Counter[str], *, num_folds: int) -> None:
    rare = [number for number in num_groups.values() if number < num_folds]
    if rare:
        # Their number, not their words: those are rows' own.
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"crossValidation.stratify: {len(rare)} of {len(num_groups)} answers have fewer groups "
            f"of rows ({min(rare)} the rarest) than the {num_folds} folds, so that a fold would "
            "lack them; give fewer folds, or set stratify: none",
        )


def _most_common(answers: Iterable[str]) -> str:
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _digest(group: Hashable, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{group!r}".encode("utf-8", "surrogatepass")).digest()
