"""Changed prompts: typos, casing, white space, injected instructions. The wanted answer stays.

`suite.py` asks held-out rows so, and `augment/adversarial_prompts.py` makes training rows of them.
What is changed in a text follows from the seed, the attack and the text alone, so that every model
is asked the same.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from tunesmith_trainer.augment.meaning import kept_parts
from tunesmith_trainer.data.rows import Row

# Keys of a row lie beside each other, and each row is shifted against the one above.
_KEYS: Final = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
_BESIDE: Final = 1.2
# Shorter ones are other words with a typo.
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_GAP: Final = re.compile(r" +")
_WIDER: Final = ("  ", "   ", "\t", "\n", " \n")
# Of the gaps; one at least.
_WIDENED_SHARE: Final = 0.3


class TextAttack(Protocol):
    """Changes one text; None where there is nothing to change."""

    def __call__(self, text: str, random: np.random.Generator, /) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Typos:
    """Typos in a share of the words; what has to stay for the answer to be right stays."""

    share: float

    def __call__(self, text: str, random: np.random.Generator) -> str | None:
        kept = [(part.start, part.end) for part in kept_parts(text)]
        words = [match for match in _WORD.finditer(text) if not _overlaps(match.span(), kept)]
        if not words:
            return None
        number = max(1, round(self.share * len(words)))
        chosen = sorted(random.permutation(len(words))[:number].tolist(), reverse=True)
        for place in chosen:
            start, end = words[place].span()
            text = text[:start] + mistyped(text[start:end], random) + text[end:]
        return text


def mistyped(word: str, random: np.random.Generator) -> str:
    """The word with one typo behind its first letter: another word, always."""
    place = int(random.integers(1, len(word)))
    kinds = random.permutation(len(_MISTAKES)).tolist()
    for kind in kinds:
        if (typo := _MISTAKES[kind](word, place, random)) is not None:
            return typo
    raise AssertionError("a letter can always be doubled")


def shout_or_whisper(text: str, random: np.random.Generator) -> str | None:
    """All capitals or all small letters, code and addresses as they are."""
    changes = [str.upper, str.lower]
    for place in random.permutation(2).tolist():
        changed = _outside_code(text, changes[place])
        if changed != text:
            return changed
    return None


def wider_gaps(text: str, random: np.random.Generator) -> str | None:
    """Some of the gaps between words wider, or broken, none within code."""
    code = _code_spans(text)
    gaps = [match for match in _GAP.finditer(text) if not _overlaps(match.span(), code)]
    if not gaps:
        return None
    number = max(1, math.ceil(_WIDENED_SHARE * len(gaps)))
    for place in sorted(random.permutation(len(gaps))[:number].tolist(), reverse=True):
        start, end = gaps[place].span()
        wide = [gap for gap in _WIDER if gap != text[start:end]]
        text = text[:start] + wide[int(random.integers(len(wide)))] + text[end:]
    return text


def changed_prompt(row: Row, attack: TextAttack, *, name: str, seed: int) -> Row | None:
    """The row with all that users say changed; None where the attack finds nothing to change."""

    def change(_place: int, text: str) -> str:
        random = np.random.default_rng([seed, *f"{name}\0{text}".encode("utf-8", "surrogatepass")])
        return attack(text, random) or text

    return _with_users(row, change)


def injected_prompt(row: Row, instruction: str, *, behind: bool) -> Row | None:
    """The row with the instruction in what the last user says; None of a row without one."""
    users = [place for place, turn in enumerate(row.messages) if turn.role == "user"]
    if not users:
        return None

    def change(place: int, text: str) -> str:
        both = (text, instruction) if behind else (instruction, text)
        return "\n\n".join(both) if place == users[-1] else text

    return _with_users(row, change)


def _with_users(row: Row, change: Callable[[int, str], str]) -> Row | None:
    messages, rejected = (
        tuple(
            turn.with_content(change(place, turn.content)) if turn.role == "user" else turn
            for place, turn in enumerate(turns)
        )
        for turns in (row.messages, row.rejected)
    )
    if messages == row.messages:
        return None
    return replace(row, messages=messages, rejected=rejected)


def _neighbours() -> dict[str, str]:
    keys = {
        key: (place + shift, row)
        for row, (letters, shift) in enumerate(_KEYS)
        for place, key in enumerate(letters)
    }
    return {
        key: "".join(
            other for other, spot in keys.items() if other != key and math.dist(at, spot) < _BESIDE
        )
        for key, at in keys.items()
    }


_NEIGHBOURS: Final[Mapping[str, str]] = _neighbours()


def _swapped(word: str, place: int, _random: np.random.Generator) -> str | None:
    if place + 1 >= len(word) or word[place] == word[place + 1]:
        return None
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _left_out(word: str, place: int, _random: np.random.Generator) -> str:
    return word[:place] + word[place + 1 :]


def _doubled(word: str, place: int, _random: np.random.Generator) -> str:
    return word[:place] + word[place] + word[place:]


def _hit_beside(word: str, place: int, random: np.random.Generator) -> str | None:
    beside = _NEIGHBOURS.get(word[place].lower())
    if beside is None:
        return None
    key = beside[int(random.integers(len(beside)))]
    return word[:place] + (key.upper() if word[place].isupper() else key) + word[place + 1 :]


_MISTAKES: Final = (_swapped, _left_out, _doubled, _hit_beside)


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts, end = list[str](), 0
    for start, stop in _code_spans(text):
        parts += [change(text[end:start]), text[start:stop]]
        end = stop
    return "".join([*parts, change(text[end:])])


def _code_spans(text: str) -> list[tuple[int, int]]:
    return [(part.start, part.end) for part in kept_parts(text) if part.kind == "code"]


def _overlaps(span: tuple[int, int], kept: Sequence[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in kept)
