"""Problems in the user's data, gathered so that one run names them all and not the first alone.

Readers and formats add to one `Problems`; prepare refuses the data once everything was looked at.
"""

from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

SHOWN: Final = 5
_LONGEST_QUOTE: Final = 80


class Problems:
    """The first few problems in words, and how many there are."""

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
