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
from tunesmith_trainer.data.cleaning.languages import language_of
from tunesmith_trainer.data.cleaning.row_texts import compared_text
from tunesmith_trainer.data.lacking_groups import Group, LackingGroups
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.tokenization import TokenizedRow
from tunesmith_trainer.prepare.topics import topics_of

# A column of more values is no column of labels, and nobody would read the report.
_MOST_GROUPS: Final = 200
_TOKENS: Final = "tokens"
_LANGUAGE: Final = "language"
_TOPIC: Final = "topic"


@dataclass(frozen=True, slots=True)
class BalancedRows:
    """The rows; for the data card their groups; what the stage says and warns of.

    `lacking` is what `synthesize` shall write.
    """

    rows: StoredRows[TokenizedRow]
    card: dict[str, JsonValue]
    note: str
    warnings: tuple[str, ...]
    lacking: LackingGroups | None = None


def balance_rows(rows: StoredRows[TokenizedRow], settings: Balance) -> BalancedRows:
    """Repeat rows, or leave rows out, until groups are as alike as the settings let them be.

    With `method: synthesize` the rows stay, and what they lack is told.

    Raises:
        BadInputError: there is one group only, or there are too many, or all of them are too small.
    """
    groups: dict[Group, list[int]] = defaultdict(list)
    made: set[int] = set()
    topics = _topics(rows, settings)
    for index, row in enumerate(rows):
        groups[_group_of(row, settings, topic=topics[index])].append(index)
        if row.row.origin.generator != "none":
            made.add(index)
    _refuse_no_groups(groups, settings, num_rows=len(rows))
    sizes = {group: len(members) for group, members in groups.items()}
    if settings.method == "synthesize":
        return _lacking(rows, groups, settings)
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


def _lacking(
    rows: StoredRows[TokenizedRow], groups: Mapping[Group, Sequence[int]], settings: Balance
) -> BalancedRows:
    sizes = {group: len(members) for group, members in groups.items()}
    largest = max(sizes.values())
    lacks = {
        group: largest - size if size >= settings.min_group_rows else 0
        for group, size in sizes.items()
    }
    group_of = {index: group for group, members in groups.items() for index in members}
    names = _names(settings)
    return BalancedRows(
        rows=rows,
        card=_card(sizes, sizes, settings),
        note=f"by {', '.join(names)} {len(sizes)} groups of {min(sizes.values())} to {largest} "
        f"rows lack {sum(lacks.values())}, for synthesis to write",
        warnings=tuple(_warnings_of_small_groups(sizes, settings)),
        lacking=LackingGroups(
            names=tuple(names),
            of_rows=tuple(group_of[index] for index in range(len(rows))),
            lacks=lacks,
        ),
    )


def _topics(rows: StoredRows[TokenizedRow], settings: Balance) -> Sequence[str]:
    """The topic of each row as the report names it; empty where nobody asks."""
    if settings.topics is None:
        return [""] * len(rows)
    texts = (compared_text(row.row) for row in rows)
    found = topics_of(texts, num=settings.topics, seed=settings.seed)
    return [f"topic {number + 1}" for number in found]


def _group_of(row: TokenizedRow, settings: Balance, *, topic: str) -> Group:
    values = [row.row.labels[column] for column in settings.columns]
    if settings.languages:
        values.append(_language_of(row.row))
    if settings.topics is not None:
        values.append(topic)
    if settings.lengths:
        values.append(_bin_of(row.length, settings))
    return tuple(values)


def _language_of(row: Row) -> str:
    said = [turn.content for turn in row.messages if turn.role == "assistant"]
    return language_of(row.text or "\n".join(said)) or "unknown"


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
    guessed = (
        (settings.languages, _LANGUAGE),
        (settings.topics, _TOPIC),
        (settings.lengths, _TOKENS),
    )
    return [*settings.columns, *(name for is_asked, name in guessed if is_asked)]


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
    warnings = _warnings_of_small_groups(sizes, settings)
    counted = [wanted[group] for group, n in sizes.items() if n >= settings.min_group_rows]
    short = sum(size < max(counted) for size in counted)
    if short:
        warnings.append(
            f"dataset.balance: {short} group(s) stay smaller than the largest: a row stands at "
            f"most {settings.most_copies} times among the rows (maxRepeats)"
        )
    return warnings


def _warnings_of_small_groups(sizes: Mapping[Group, int], settings: Balance) -> list[str]:
    small = sum(size < settings.min_group_rows for size in sizes.values())
    told = (
        f"dataset.balance: {small} group(s) have fewer rows than minGroupRows "
        f"({settings.min_group_rows}) and are left as they are; the data card names them"
    )
    return [told] if small else []
