"""Rows that teach nothing, or teach twice: empty ones and exact duplicates.

The first of several is kept, so that a row's place in its file decides, and two runs over the same
files keep the same rows.
"""

from collections.abc import Sequence
from typing import Literal

from tunesmith_trainer.data.cleaning.row_keys import RowKey, row_key
from tunesmith_trainer.data.rows import Problems, Row


def without_empty(
    rows: Sequence[Row], *, policy: Literal["remove", "fail"], problems: Problems
) -> list[Row]:
    """The rows whose text, or whose every answer, has visible characters."""
    kept = []
    for row in rows:
        if row.text is not None:
            trained = [row.text]
        else:
            turns = (*row.messages, *row.rejected)
            trained = [turn.said for turn in turns if turn.is_trained]
        if all(text.strip() for text in trained):
            kept.append(row)
        elif policy == "fail":
            problems.add(
                row.source,
                given="an empty text" if row.text is not None else "an empty answer",
                rule="dataset.cleaning.emptyRows is fail",
                remedy="fill or delete the row, or set emptyRows: remove",
                is_bad_row=False,
            )
    return kept


def without_duplicates(rows: Sequence[Row]) -> list[Row]:
    """The first of every set of duplicates, in order."""
    first: dict[RowKey, Row] = {}
    for row in rows:
        first.setdefault(row_key(row), row)
    return list(first.values())
