"""Texts cut to what a status may hold."""

from typing import Final

from tunesmith_api.reasons import Reason

MAX_MESSAGE: Final = 256
MAX_REASON: Final = 64


def clipped(message: str) -> str:
    """At most 256 characters; an ellipsis stands for what was cut off."""
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"


def sound_reason(given: str) -> str:
    """The reason a stage gave, in the length that a condition takes."""
    return given[:MAX_REASON] or str(Reason.STAGE_CRASHED)
