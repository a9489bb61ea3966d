"""Which columns of a table a format's fields may be, told by names that people give them.

Only a proposal, which `init` writes into a manifest and shows: training never guesses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

# By field, the usual names in data sets and spreadsheets.
_QUESTIONS: Final = ("prompt", "question", "query", "instruction", "input", "request", "problem")
_ANSWERS: Final = ("completion", "answer", "response", "output", "reply", "solution")
_CONTEXTS: Final = ("input", "context")


@dataclass(frozen=True, slots=True)
class _Table:
    """The fields of a format, each with the names that its column may have."""

    format: str
    fields: Mapping[str, tuple[str, ...]]


# NB: in this order. An instruction with a context is no prompt alone: the context would be lost.
_TABLES: Final = (
    _Table("alpaca", {"instruction": ("instruction",), "input": _CONTEXTS, "output": _ANSWERS}),
    _Table("messages", {"messages": ("messages", "conversation", "chat", "turns", "dialogue")}),
    _Table("sharegpt", {"conversations": ("conversations",)}),
    _Table(
        "preference",
        {
            "prompt": _QUESTIONS,
            "chosen": ("chosen", "preferred", "better", "good"),
            "rejected": ("rejected", "dispreferred", "worse", "bad"),
        },
    ),
    _Table("promptCompletion", {"prompt": _QUESTIONS, "completion": _ANSWERS}),
)
# NB: only of a table with nothing else: what stands beside a text would be passed over.
_TEXTS: Final = ("text", "content", "body", "document")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A format, and which of the columns its fields are; those of the same name are left out."""

    format: str
    columns: Mapping[str, str]


def propose_columns(names: Iterable[str]) -> Proposal | None:
    """The first format of which every field is exactly one of the columns."""
    known = list(names)
    for table in _TABLES:
        found = {field: _columns_of(words, known) for field, words in table.fields.items()}
        if all(len(columns) == 1 for columns in found.values()):
            columns = {field: column for field, (column,) in found.items() if field != column}
            return Proposal(table.format, columns)
    is_text = len(known) == 1 and _columns_of(_TEXTS, known)
    return Proposal("text", {"text": known[0]}) if is_text else None


def _columns_of(words: tuple[str, ...], names: list[str]) -> list[str]:
    return [name for name in names if name.strip().casefold() in words]
