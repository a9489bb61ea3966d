"""A rendered prompt as the turns of its conversation, so that a person can read it.

Chat templates differ, but have this in common: special tokens stand around turns, and the name of a
role opens one, as `<|im_start|>user`, `<|start_header_id|>user<|end_header_id|>` or `<|user|>`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_ROLES = frozenset({"system", "developer", "user", "human", "assistant", "model", "tool"})
_OPENING = re.compile(r"\s*(\w+)[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says; `role` is empty where the template names none."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text, and whether it is a marker of the template."""

    text: str
    is_marker: bool


def turns_of(prompt: str, markers: Sequence[str]) -> list[Turn]:
    """The turns without their markers; the one that the model is to fill is left out."""
    found, role = [], ""
    for part in parts_of(prompt, markers):
        word = re.sub(r"\W", "", part.text).lower()
        if word in _ROLES:
            role = word
        elif not part.is_marker:
            opening = _OPENING.match(part.text)
            opens = opening is not None and opening[1].lower() in _ROLES
            told = part.text[opening.end() :] if opening and opens else part.text
            found.append(Turn(opening[1].lower() if opening and opens else role, told.strip()))
            role = ""
    return [turn for turn in found if turn.text]


def parts_of(text: str, markers: Iterable[str]) -> Iterator[Part]:
    """The text cut at its markers, in order."""
    known = sorted(filter(None, markers), key=len, reverse=True)
    cut = re.split(f"({'|'.join(map(re.escape, known))})", text) if known else [text]
    for index, each in enumerate(cut):
        if each:
            yield Part(text=each, is_marker=index % 2 == 1)
