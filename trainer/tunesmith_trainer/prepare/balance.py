"""`dataset.balance`: groups of training rows brought to like sizes, told before and after.

`training_rows` calls it last, so that what other remedies added counts. Rows are repeated, or left
out, in the files that are trained on: in the long run a gradient is that of weighted rows, and
every count that is told is the true one.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_api.finetunejob.balance import Balance
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.tokenization import TokenizedRow

# A column of more values is no column of labels, and nobody would read the report.
_MOST_GROUPS: Final = 200
_TOKENS: Final = "tokens"

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BalancedRows:
    """The rows; for the data card their groups; what the stage says and warns of."""

    rows: StoredRows[TokenizedRow]
    card: dict[str, JsonValue]
    note: str
    warnings: tuple[str, ...]


def balance_rows(rows: StoredRows[TokenizedRow], settings: Balance) -> BalancedRows:
    """Repeat rows, or leave rows out, until groups are as alike as the settings let them be.

    Raises:
        BadInputError: there is one group only, or there are too many, or all of them are too small.
    """
    groups: dict[Group, list[int]] = defaultdict(list)
    made: set[int] = set()
    for index, row in enumerate(rows):
        groups[_group_of(row, settings)].append(index)
        if row.row.origin.generator != "none":
            made.add(index)
    _refuse_no_groups(groups, settings, num_rows=len(rows))
    sizes = {group: len(members) for group, members in groups.items()}
    wanted = _wanted_sizes(sizes, settings)
    chosen = [
        index
        for group, members in groups.items()
        for index in _resized(members, wanted[group], made=made, seed=_seed(settings, group))
    ]
    # In their order, what is repeated next to its first: training shuffles, and people compare.
    kept = rows.chosen(sorted(chosen))
    return BalancedRows(
        rows=kept,
        card=_card(sizes, wanted, settings),
        note=_note(sizes, wanted, settings),
        warnings=tuple(_warnings(sizes, wanted, settings)),
    )


def _group_of(row: TokenizedRow, settings: Balance) -> Group:
    values = tuple(row.row.labels[column] for column in settings.columns)
    return (*values, _bin_of(row.length, settings)) if settings.lengths else values


def _bin_of(length: int, settings: Balance) -> str:
    ends = sorted(set(settings.lengths))
    place = int(np.searchsorted(ends, length))
    first = ends[place - 1] + 1 if place else 1
    return f"{first}-{ends[place]}" if place < len(ends) else f"{first} and more"


def _refuse_no_groups(
    groups: Mapping[Group, Sequence[int]], settings: Balance, *, num_rows: int
) -> None:
    largest = max(map(len, groups.values()))
    if len(groups) == 1:
        rule, remedy = "all of them are of one group", "name a column with several values"
    elif len(groups) > _MOST_GROUPS:
        rule = f"they make {len(groups)} groups, and at most {_MOST_GROUPS} are told apart"
        remedy = "name columns of labels with fewer values"
    elif largest < settings.min_group_rows:
        rule = f"no group has as many rows as minGroupRows ({settings.min_group_rows})"
        remedy = "lower minGroupRows, or name fewer columns"
    else:
        return
    raise BadInputError(
        Reason.DATASET_INVALID,
        f"dataset.balance: given {num_rows} training rows by {', '.join(_names(settings))}; "
        f"{rule}; {remedy}",
    )


def _wanted_sizes(sizes: Mapping[Group, int], settings: Balance) -> dict[Group, int]:
    counted = [size for size in sizes.values() if size >= settings.min_group_rows]
    target = min(counted) if settings.method == "undersample" else max(counted)
    return {
        group: size if size < settings.min_group_rows else min(target, size * settings.most_copies)
        for group, size in sizes.items()
    }


def _resized(members: Sequence[int], wanted: int, *, made: Collection[int], seed: int) -> list[int]:
    """So many of a group's rows: each as often as any other, give or take one.

    What a remedy wrote is the first to go, and the last to be repeated.
    """
    shuffled = np.random.default_rng(seed).permutation(np.array(members)).tolist()
    ordered = sorted(shuffled, key=made.__contains__)
    return (ordered * math.ceil(wanted / len(ordered)))[:wanted]


def _seed(settings: Balance, group: Group) -> int:
    # Of each group by itself: rows that one more group brings move nothing in the others.
    digest = hashlib.sha256(repr((settings.seed, group)).encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:8])


def _names(settings: Balance) -> list[str]:
    return [*settings.columns, *([_TOKENS] if settings.lengths else [])]


def _card(
    sizes: Mapping[Group, int], wanted: Mapping[Group, int], settings: Balance
) -> dict[str, JsonValue]:
    names = _names(settings)
    values = [len({group[place] for group in sizes}) for place in range(len(names))]
    return {
        "by": list[JsonValue](names),
        "method": settings.method,
        # Of all combinations of values that there are; nothing here can fill them.
        "emptyGroups": math.prod(values) - len(sizes),
        "groups": [
            {"values": list[JsonValue](group), "before": sizes[group], "after": wanted[group]}
            for group in sorted(sizes)
        ],
    }


def _note(sizes: Mapping[Group, int], wanted: Mapping[Group, int], settings: Balance) -> str:
    before, after = sizes.values(), wanted.values()
    return (
        f"balanced by {', '.join(_names(settings))}: {len(sizes)} groups of {min(before)} to "
        f"{max(before)} rows have {min(after)} to {max(after)} now ({sum(before)} rows before, "
        f"{sum(after)} after)"
    )


def _warnings(
    sizes: Mapping[Group, int], wanted: Mapping[Group, int], settings: Balance
) -> list[str]:
    warnings = []
    small = sum(size < settings.min_group_rows for size in sizes.values())
    if small:
        warnings.append(
            f"dataset.balance: {small} group(s) have fewer rows than minGroupRows "
            f"({settings.min_group_rows}) and are left as they are; the data card names them"
        )
    counted = [wanted[group] for group, n in sizes.items() if n >= settings.min_group_rows]
    short = sum(size < max(counted) for size in counted)
    if short:
        warnings.append(
            f"dataset.balance: {short} group(s) stay smaller than the largest: a row stands at "
            f"most {settings.most_copies} times among the rows (maxRepeats)"
        )
    return warnings
