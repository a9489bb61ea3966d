"""A row on its way from the user's file to tokens, and the problems that are met on the way.

`readers` make a `RawRow` of what stands in a file, `formats` a `Row` of what its fields mean;
`cleaning`, `chat_template` and `loss_mask` take it from there. None of them raises at the first bad
row: each adds to one `Problems`, and prepare refuses the data once everything was looked at.
"""

from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

# A status message has room for no more than about this many lines that name a row each.
SHOWN: Final = 5
_LONGEST_QUOTE: Final = 80


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the file has it: a mapping of fields, or the list of turns of a dialogue.

    `source` is "file:line"; the number of the row, from 1, where a file has no lines.
    """

    source: str
    value: Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation (`messages`) or a text (`text`); exactly one of the two is given.

    A preference is the conversation with the chosen answer, and in `rejected` that with the other
    one. Both begin with the same `num_prompt` turns, of which none is trained. `num_joined` turns
    of the file are part of the one before them, which is of the same role.
    """

    source: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    rejected: tuple[Message, ...] = ()
    num_prompt: int = 0
    num_joined: int = 0


class Problems:
    """The first few problems of the user's data in words, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, source: str, *, given: str, rule: str, remedy: str) -> None:
        """Note that `source` ("file:line") holds `given`, which breaks `rule`."""
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"{source}: given {given}; {rule}; {remedy}")

    def refuse(self, reason: Reason = Reason.DATASET_INVALID) -> None:
        """Return if there are no problems.

        Raises:
            BadInputError: there are; its message lists the first ones and counts the rest.
        """
        if not self.count:
            return
        rest = self.count - len(self.shown)
        more = [f"and {rest} more problem{'s' * (rest != 1)}"] if rest else []
        raise BadInputError(reason, "\n".join([*self.shown, *more]))


def quoted(value: object) -> str:
    """A value as it was given, in one short line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 1]}…"
