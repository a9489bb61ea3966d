"""The splits: rows to learn from, and rows held out.

`stage` calls `split_data` once the rows are tokens. With a validation source of its own, the
training rows that are equal to a validation row are left out: the held-out rows stay as they were
given, so that jobs stay comparable. Without one, the training rows are split: at random, by strata,
or by time. What a remedy does to the training rows comes behind it, and changes no held-out row.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import TypeVar, cast

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.near_duplicates import near_duplicate_groups
from tunesmith_trainer.data.cleaning.row_keys import question_key, row_key
from tunesmith_trainer.data.cleaning.row_texts import compared_text
from tunesmith_trainer.data.labels import times_of
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.tokenization import TokenizedRow

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows of both splits; how many were left out since they would be on both sides."""

    train: StoredRows[TokenizedRow]
    validation: StoredRows[TokenizedRow]
    num_leaked: int
    warnings: tuple[str, ...]


def split_data(
    train: StoredRows[TokenizedRow],
    validation: StoredRows[TokenizedRow] | None,
    *,
    dataset: Dataset,
    near: Mapping[str, str] | None = None,
) -> Splits:
    """Split `train`, or keep it apart from `validation` where that is given.

    `near` names for each row that is nearly the same as an earlier one that; None where nobody has
    looked.

    Raises:
        BadInputError: one split would be empty.
    """
    if not train:
        raise _nothing_left("training", "dataset.train")
    if validation is None:
        keys = _keys(train, dataset, near)
        split = _split_by_time if _is_by_time(dataset) else _split
        return split(train, keys, dataset)
    if not validation:
        raise _nothing_left("validation", "dataset.validation")
    return _without_leaks(train, validation)


def _is_by_time(dataset: Dataset) -> bool:
    return dataset.split is not None and dataset.split.by == "time"


def _split(train: StoredRows[TokenizedRow], keys: Sequence[bytes], dataset: Dataset) -> Splits:
    # The planner has filled the fraction in: there is no validation source.
    fraction, seed = cast("float", dataset.validation_fraction), dataset.seed
    column = dataset.split.stratify_by if dataset.split else None
    warnings = []
    if column is None:
        chosen = split_indices(keys, fraction=fraction, seed=seed)
    else:
        strata = [intern(row.row.labels[column]) for row in train]
        chosen = stratified_indices(keys, strata, fraction=fraction, seed=seed)
        missing = set(strata) - {strata[index] for index in chosen[1]}
        if missing:
            # Their number, not their names: those may be a row's words.
            warnings.append(
                f"{len(missing)} of {len(set(strata))} values of {column} have no held-out row: "
                "too few rows with first questions of their own"
            )
    learnt, held_out = (train.chosen(indices) for indices in chosen)
    return Splits(train=learnt, validation=held_out, num_leaked=0, warnings=tuple(warnings))


def _keys(
    rows: StoredRows[TokenizedRow], dataset: Dataset, near: Mapping[str, str] | None
) -> list[bytes]:
    """What rows have in common that must be on one side: digests, by which they are shuffled too.

    NB: of seed and key, not a random generator: the order of the rows in their files does not
    matter, and the same seed gives the same split on every machine.
    """
    keys = [_digest(dataset.seed, question_key(row.row)) for row in rows]
    if dataset.split is None or dataset.split.near_duplicates == "apart":
        return keys
    if near is not None:
        return joined_keys(keys, [near.get(row.row.source, row.row.source) for row in rows])
    asked = dataset.cleaning.near_duplicates
    texts = (compared_text(row.row) for row in rows)
    return joined_keys(keys, near_duplicate_groups(texts, asked.threshold, asked.seed))


def _digest(seed: int, key: object) -> bytes:
    return hashlib.sha256(f"{seed}\0{key!r}".encode("utf-8", "surrogatepass")).digest()


def joined_keys(keys: Sequence[bytes], groups: Sequence[Hashable]) -> list[bytes]:
    """For each row the least key of all that share a key or a group with it, however far apart.

    So a row that is like no other keeps its own, and the place of its group tells nothing.
    """
    least = {key: key for key in keys}

    def root(key: bytes) -> bytes:
        while least[key] != key:
            key = least[key]
        return key

    first: dict[Hashable, bytes] = {}
    for key, group in zip(keys, groups, strict=True):
        one, other = sorted((root(key), root(first.setdefault(group, key))))
        least[other] = one
    return [root(key) for key in keys]


def _split_by_time(
    train: StoredRows[TokenizedRow], keys: Sequence[bytes], dataset: Dataset
) -> Splits:
    """The newest rows are held out, but those whose first question older rows have.

    NB: the latter are left out altogether. To train on them would be to know the future.
    """
    fraction = cast("float", dataset.validation_fraction)
    column = cast("str", dataset.split and dataset.split.time_column)
    times = times_of((row.row for row in train), column=column)
    # Rows of one time stay together, on the older side.
    last = sorted(times)[-_num_wanted(len(times), fraction) - 1 :][0]
    learnt = [place for place, time in enumerate(times) if time <= last]
    newer = [place for place, time in enumerate(times) if time > last]
    known = {keys[place] for place in learnt}
    held_out = [place for place in newer if keys[place] not in known]
    if not held_out:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.split.timeColumn: given {column}; of {len(train)} rows {len(newer)} are "
            "newer than those to train on, and all of these have the first question of an older "
            "row; raise dataset.validationFraction, or set by: random",
        )
    repeated = len(newer) - len(held_out)
    warning = f"{repeated} of the newest row(s) left out: older rows have the same first question"
    return Splits(
        train=train.chosen(learnt),
        validation=train.chosen(held_out),
        num_leaked=repeated,
        warnings=(warning,) if repeated else (),
    )


def split_indices(
    keys: Sequence[Key], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of the training rows and of the validation rows, each ascending.

    Rows that share a key go to the same split; a key of bytes is a digest of it and the seed. The
    validation split gets whole groups as long as they fit into `fraction` of the rows, and at least
    one group; one group at least stays for training.

    Raises:
        BadInputError: all rows share one key, so that one split would be empty.
    """
    return stratified_indices(keys, [""] * len(keys), fraction=fraction, seed=seed)


def stratified_indices(
    keys: Sequence[Key], strata: Sequence[str], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """As `split_indices`, in each of the strata by itself, if it has rows of several keys.

    Rows of one key belong to the stratum that most of them have.

    Raises:
        BadInputError: no stratum has rows of several keys.
    """
    groups: dict[Key, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    by_stratum: dict[str, dict[Key, list[int]]] = defaultdict(dict)
    for key, rows in groups.items():
        counts = Counter(strata[row] for row in rows)
        by_stratum[min(counts, key=lambda name: (-counts[name], name))][key] = rows
    chosen = [
        index
        for stratum in by_stratum.values()
        if len(stratum) > 1
        for index in _chosen(stratum, fraction=fraction, seed=seed)
    ]
    if not chosen:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"no validation rows left: the {len(keys)} row(s) that remain share one first "
            "question, or are nearly the same by dataset.split.nearDuplicates, and such rows are "
            "never on both sides of the split; add rows, or give dataset.validation"
            if len(by_stratum) < 2  # noqa: PLR2004 - it is split without strata
            else "no validation rows left: each value of dataset.split.stratifyBy has rows of one "
            "first question only; name a column with fewer values",
        )
    held_out = sorted(chosen)
    others = set(range(len(keys))) - set(held_out)
    return sorted(others), held_out


def _chosen(groups: Mapping[Key, list[int]], *, fraction: float, seed: int) -> list[int]:
    wanted = _num_wanted(sum(map(len, groups.values())), fraction)
    shuffled = _shuffled(groups, seed)
    chosen: list[int] = []
    for group in shuffled[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    return chosen or min(shuffled, key=len)


def _num_wanted(num_rows: int, fraction: float) -> int:
    # Rounded half up; round() would round half to even, and 2.5 rows to 2.
    return min(num_rows - 1, max(1, int(fraction * num_rows + 0.5)))


def _shuffled(groups: Mapping[Key, list[int]], seed: int) -> list[list[int]]:
    def order(item: tuple[Key, list[int]]) -> bytes:
        key, _ = item
        return key if isinstance(key, bytes) else _digest(seed, key)

    return [rows for _, rows in sorted(groups.items(), key=order)]


def _without_leaks(train: StoredRows[TokenizedRow], validation: StoredRows[TokenizedRow]) -> Splits:
    held_out = {row_key(row.row) for row in validation}
    questions = {question_key(row.row) for row in validation}
    kept, shared = [], 0
    for place, row in enumerate(train):
        if row_key(row.row) not in held_out:
            kept.append(place)
            shared += question_key(row.row) in questions
    if not kept:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"no training rows left: all {len(train)} are also in dataset.validation; give other "
            "validation rows, or none and dataset.validationFraction",
        )
    leaked = len(train) - len(kept)
    warnings = []
    if leaked:
        warnings.append(f"{leaked} training row(s) left out: they are also in dataset.validation")
    if shared:
        warnings.append(
            f"{shared} training row(s) have the same first question as a validation row; the "
            "held-out loss may look better than it is"
        )
    return Splits(
        train=train.chosen(kept),
        validation=validation,
        num_leaked=leaked,
        warnings=tuple(warnings),
    )


def _nothing_left(split: str, field: str) -> BadInputError:
    return BadInputError(
        Reason.DATASET_INVALID,
        f"no {split} rows left: every row of {field} is empty or longer than "
        "training.sequenceLength; check the rows, or raise training.sequenceLength",
    )
