"""How a stage says that it cannot go on.

StageError          any end of a stage that is not success; carries a Reason
├── BadInputError   manifest, data or model breaks a rule: exit code 2, never retried
├── VerdictError    a gate or a proof said no: exit code 1, never retried
└── TransientError  machine or network failed: exit code 1, retried within backoffLimit
"""

import errno
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageOutcome

# What libraries in Rust and C++ quote of the operating system, in errors of their own.
_FULL: Final = ("No space left on device", "Disk quota exceeded")


class StageError(Exception):
    """A stage ends without success.

    `message` says what was given, which rule it broke and what to do.

    `findings` are what it had measured by then, so that a refused model still shows its numbers.
    """

    retryable = False
    bad_input = False

    def __init__(
        self, reason: Reason, message: str, *, findings: StageOutcome | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.findings = findings


class BadInputError(StageError):
    """What the user gave cannot work, now or later."""

    bad_input = True


class VerdictError(StageError):
    """The model was judged and found wanting."""


class TransientError(StageError):
    """The same stage may succeed another time."""

    retryable = True


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a quota of it, is what an error comes from."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    if any(text in str(error) for text in _FULL):
        return True
    return is_disk_full(error.__cause__ or error.__context__)
