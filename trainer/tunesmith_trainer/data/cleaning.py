"""Rows that teach nothing, or teach twice: empty ones and exact duplicates.

Follows `formats`. Two rows are duplicates if they hold the same turns, or the same text, after runs
of white space were made one space, the same tools and the same turns that are trained; preferences
if both answers are the same. The first of them is
kept, so that a row's place in its file decides, and two runs over the same files keep the same
rows.
"""

import json
from collections.abc import Sequence
from typing import Literal

from tunesmith_trainer.data.rows import Message, Problems, Row

RowKey = tuple[tuple[str, str], ...]


def row_key(row: Row) -> RowKey:
    """What duplicates have in common.

    NB: case counts. In code, names and passwords it is the difference between two answers.
    """
    if row.text is not None:
        return (("text", _squeezed(row.text)),)
    tools = [("tools", json.dumps(row.tools, sort_keys=True))] if row.tools else []
    rejected = ((f"not {role}", words) for role, words in map(_turn_key, row.rejected))
    return (*tools, *map(_turn_key, row.messages), *rejected)


def question_key(row: Row) -> RowKey:
    """What rows have in common that must not stand in both splits.

    The first user turn, in any case and spacing; the whole row where there is none. It is coarser
    than `row_key` on purpose: a question that was trained with another answer would make the
    held-out loss of its twin look better than it is.
    """
    for message in row.messages:
        if message.role == "user":
            return (("user", _squeezed(message.content).casefold()),)
    return row_key(row)


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


def _turn_key(turn: Message) -> tuple[str, str]:
    # A conversation may well be given once for each of its answers.
    is_shown_alone = turn.role == "assistant" and not turn.trained
    return (f"{turn.role}, untrained" if is_shown_alone else turn.role, _squeezed(turn.said))


def _squeezed(text: str) -> str:
    return " ".join(text.split())
