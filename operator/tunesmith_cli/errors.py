"""How a command says that it cannot do what was asked, without a traceback.

Commands raise `Refusal`; `main.py` prints it as `error: …` and ends with its exit code.
"""

from typing import Final

from tunesmith_api.reasons import Reason

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


class Refusal(Exception):  # noqa: N818 - an answer to the user, not a fault
    """What was given, which rule it broke, what to do; `code` is the exit code."""

    def __init__(
        self, message: str, *, reason: Reason = Reason.INVALID_SPEC, code: int = EXIT_BAD_INPUT
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
