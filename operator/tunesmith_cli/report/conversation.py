"""Rendered text of a chat template, taken apart so that a person can read it.

Chat templates differ, but have this in common: special tokens stand around turns, and the name of a
role opens one, as `<|im_start|>user`, `<|start_header_id|>user<|end_header_id|>` or `<|user|>`.
Which tokens those are (`markers`), prepare has asked the tokenizer.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_ROLES: Final = frozenset({"system", "developer", "user", "human", "assistant", "model", "tool"})
# A role's name that stands alone on its line, behind a marker.
_OPENING: Final = re.compile(r"\s*(\w+)[ \t]*\n")


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


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a row of data, and whether the model is trained to write it."""

    parts: tuple[Part, ...]
    is_trained: bool


def turns_of(prompt: str, markers: Sequence[str]) -> list[Turn]:
    """The turns without their markers; the one that the model is to fill is left out."""
    turns, role = [], ""
    for part in parts_of(prompt, markers):
        word = re.sub(r"\W", "", part.text).lower()
        # The role is a token of its own (`<|user|>`), or a word between two (`header` tokens).
        if word in _ROLES:
            role = word
        elif not part.is_marker:
            opening = _OPENING.match(part.text)
            # NB: only a known role: the first line of a turn may be a single word, too.
            if opening and opening[1].lower() in _ROLES:
                turns.append(Turn(opening[1].lower(), part.text[opening.end() :].strip()))
            else:
                turns.append(Turn(role, part.text.strip()))
            role = ""
    return [turn for turn in turns if turn.text]


def question_of(prompt: str, markers: Sequence[str]) -> str:
    """What is asked: the turns but the system's, with their roles where there are several."""
    turns = [turn for turn in turns_of(prompt, markers) if turn.role != "system"]
    if len(turns) <= 1:
        return "".join(turn.text for turn in turns)
    return " · ".join(f"{turn.role}: {turn.text}" if turn.role else turn.text for turn in turns)


def parts_of(text: str, markers: Iterable[str]) -> Iterator[Part]:
    """The text cut at its markers, in order."""
    # The longest first: a marker may begin like another, and a regex takes the first that fits.
    known = sorted(filter(None, markers), key=len, reverse=True)
    # With a group in the pattern, split returns what it split at as well, at each odd place.
    cut = re.split(f"({'|'.join(map(re.escape, known))})", text) if known else [text]
    for index, piece in enumerate(cut):
        if piece:
            yield Part(text=piece, is_marker=index % 2 == 1)


def stretches_of(
    text: str, trained: Iterable[tuple[int, int]], *, markers: Sequence[str]
) -> list[Stretch]:
    """The text cut at the borders of the trained spans, which count characters, in order."""
    pieces, position = [], 0
    for start, end in sorted(trained):
        pieces.append((text[position:start], False))
        # Spans may overlap in a file of another version; no character is shown twice.
        pieces.append((text[max(start, position) : end], True))
        position = max(position, end)
    pieces.append((text[position:], False))
    return [
        Stretch(parts=tuple(parts_of(piece, markers)), is_trained=is_trained)
        for piece, is_trained in pieces
        if piece
    ]
