"""What rows have in common: all of what they hold, or the question that they begin with.

Two rows are the same if they hold the same turns, or the same text, after runs of white space were
made one space, the same tools and the same turns that are trained; preferences if both answers are
the same.
"""

import hashlib
import json

from tunesmith_trainer.data.rows import Message, Row

RowKey = tuple[tuple[str, str], ...]


def row_key(row: Row) -> RowKey:
    """What duplicates have in common.

    NB: case counts. In code, names and passwords it is the difference between two answers.
    """
    if row.text is not None:
        return (("text", squeezed(row.text)),)
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
            return (("user", squeezed(message.content).casefold()),)
    return row_key(row)


def digest_of(key: object) -> bytes:
    """Sixteen bytes that stand for a key: those of a million rows lie in memory, their words not.

    Two keys share one by chance once in 10²⁶ data sets of a million rows.
    """
    written = repr(key).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(written, digest_size=16).digest()


def _turn_key(turn: Message) -> tuple[str, str]:
    # A conversation may well be given once for each of its answers.
    is_shown_alone = turn.role == "assistant" and not turn.trained
    return (f"{turn.role}, untrained" if is_shown_alone else turn.role, squeezed(turn.said))


def squeezed(text: str) -> str:
    """The text with one space for every run of white space."""
    return " ".join(text.split())
