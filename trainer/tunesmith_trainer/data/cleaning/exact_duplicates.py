"""Rows that teach nothing, or teach twice: empty ones and exact duplicates.

The first of several is kept, so that a row's place in its file decides, and two runs over the same
files keep the same rows.
"""

from collections.abc import Sequence

from tunesmith_trainer.data.cleaning.row_keys import RowKey, row_key
from tunesmith_trainer.data.rows import Row


def empty_rows(rows: Sequence[Row]) -> list[int]:
    """Places of rows whose text, or one of whose answers, has no visible character."""
    return [place for place, row in enumerate(rows) if not _is_filled(row)]


def first_of_copies(rows: Sequence[Row]) -> dict[int, int]:
    """For the place of each copy that of the first row which is the same."""
    first: dict[RowKey, int] = {}
    firsts = [first.setdefault(row_key(row), place) for place, row in enumerate(rows)]
    return {place: original for place, original in enumerate(firsts) if original != place}


def _is_filled(row: Row) -> bool:
    if row.text is not None:
        return bool(row.text.strip())
    turns = (*row.messages, *row.rejected)
    return all(turn.said.strip() for turn in turns if turn.is_trained)
