"""Rows that teach nothing, or teach twice: empty ones and exact duplicates.

The first of several is kept, so that a row's place in its file decides, and two runs over the same
files keep the same rows.
"""

from collections.abc import Iterable

from tunesmith_trainer.data.cleaning.row_keys import digest_of, row_key
from tunesmith_trainer.data.rows import Row


def is_empty(row: Row) -> bool:
    """Whether the text, or one of the answers, has no visible character."""
    if row.text is not None:
        return not row.text.strip()
    turns = (*row.messages, *row.rejected)
    return not all(turn.said.strip() for turn in turns if turn.is_trained)


def first_of_copies(rows: Iterable[Row]) -> dict[int, int]:
    """For the place of each copy that of the first row which is the same."""
    first: dict[bytes, int] = {}
    firsts = (first.setdefault(digest_of(row_key(row)), place) for place, row in enumerate(rows))
    return {place: original for place, original in enumerate(firsts) if original != place}
