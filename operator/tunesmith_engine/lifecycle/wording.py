"""Texts cut to what a status may hold."""

from typing import Final

from tunesmith_api.conditions import MAX_MESSAGE, MAX_REASON
from tunesmith_api.reasons import Reason

_LEAST: Final = 64


def clipped(message: str, *, ending: str = "") -> str:
    """At most 256 characters with the whole of `ending`; an ellipsis stands for what was cut off.

    An ending that would leave no room for the message is left out.
    """
    ending = ending if len(ending) <= MAX_MESSAGE - _LEAST else ""
    room = MAX_MESSAGE - len(ending)
    return f"{message if len(message) <= room else f'{message[: room - 1]}…'}{ending}"


def sound_reason(given: str) -> str:
    """The reason a stage gave, in the length that a condition takes."""
    return given[:MAX_REASON] or str(Reason.STAGE_CRASHED)
