"""How a command says that it cannot do what was asked, without a traceback.

    Exception
    └── CommandError    `main.py` prints it as `error: …` and ends with its exit code

The engine's own errors (`LocalError`, `SourceError`) and the machine's (`OSError`) become one, too.
"""

import errno
from typing import Final

from tunesmith_api.reasons import Reason

# Scripts and CI jobs branch on these. 2 is also what argparse ends with, so that a bad command line
# and a bad manifest look alike; 130 is what shells report of a process that SIGINT (2) ended.
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


class CommandError(Exception):
    """What was given, which rule it broke, what to do; `code` is the exit code."""

    def __init__(
        self, message: str, *, reason: Reason = Reason.INVALID_SPEC, code: int = EXIT_BAD_INPUT
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code


def machine_error(error: OSError) -> CommandError:
    """What the operating system refused, with the path that it names."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        # Not the fault of what was given: the same command works once there is space.
        message = f"{place}no space left; free some where the home folder lies"
        return CommandError(message, reason=Reason.DISK_FULL, code=EXIT_FAILED)
    said = error.strerror or error
    return CommandError(f"{place}{said}; check the path, its owner and its rights")
