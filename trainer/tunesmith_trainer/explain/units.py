"""A row as tokens, and the units of its prompt that attributions are about.

A unit is a set of tokens: a turn, a sentence, a word, or one token. What the chat template writes
around turns is in no unit and always stays. Units follow characters, and a token belongs to the
unit of its first character that is no white space: whatever way a tokenizer splits a term, the
term is not parted.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tunesmith_api.finetunejob.explain import Units
from tunesmith_trainer.data.rows import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of scripts that put no space between words, each character is one.
_NO_SPACES: Final = "\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f"
_WORD: Final = re.compile(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]+")
_SENTENCE: Final = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|[。！？]+|(?=\n)|$)", re.DOTALL)
_MARK: Final = "\ue000{number}\ue001"
_PLAIN: Final = "text"


@dataclass(frozen=True, slots=True)
class Unit:
    """Positions of tokens in the row, what they say, and whose words they are.

    `place` counts units of the turn from 1; the turn is counted from 1 as well.
    """

    tokens: tuple[int, ...]
    text: str
    role: str
    turn: int
    place: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters that somebody has said, from `start` to before `end`."""

    start: int
    end: int
    role: str
    turn: int


@dataclass(frozen=True, slots=True)
class RowText:
    """The tokens of a row: prompt up to `num_prompt`, then the answer."""

    ids: tuple[int, ...]
    num_prompt: int
    text: str
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls, tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], *, num_prompt: int
    ) -> "RowText":
        """Find the characters of each token."""
        text, places = _places(tokenizer, list(ids))
        return cls(tuple(ids), num_prompt, text, tuple(places))

    @property
    def answer(self) -> str:
        """What the answer says, with the token that ends it."""
        return self.text[self.places[self.num_prompt][0] :]


def units_of(
    row: RowText, stretches: Sequence[Stretch], *, kind: Units, most: int
) -> tuple[str, list[Unit]]:
    """The kind of unit that was chosen, and at most so many, neighbours joined where needed."""
    if kind != "auto":
        return kind, joined(_units(row, stretches, kind), most=most)
    words = _units(row, stretches, "words")
    if len(words) <= most:
        return "words", words
    for coarser in ("sentences", "turns"):
        units = _units(row, stretches, coarser)
        if 2 < len(units) <= most:  # noqa: PLR2004 - two tell no more than which half
            return coarser, units
    return "words", joined(words, most=most)


def joined(units: Sequence[Unit], *, most: int) -> list[Unit]:
    """`units` in order, in `most` groups of nearly equal size where there are more."""
    if len(units) <= most:
        return list(units)
    bounds = [round(place * len(units) / most) for place in range(most + 1)]
    return [_together(units[start:end]) for start, end in pairwise(bounds)]


def stretches_of(
    row: RowText, tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message] | None
) -> list[Stretch]:
    """Who said what in the prompt.

    What the template makes of the turns tells; where the prompt was cut or a turn calls tools, the
    text between special tokens does.
    """
    end = row.places[row.num_prompt][0]
    if messages is None:
        return [Stretch(row.places[1][0], end, _PLAIN, 1)]
    return _said(row.text[:end], tokenizer, messages) or _between_special(row, tokenizer)


def _said(
    prompt: str, tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]
) -> list[Stretch]:
    turns = [turn for turn in messages if not turn.tool_calls]
    if len(turns) != len(messages):
        return []
    marks = [_MARK.format(number=number) for number in range(len(turns))]
    marked = [turn.with_content(mark) for turn, mark in zip(turns, marks, strict=True)]
    rendered: str = tokenizer.apply_chat_template(
        [turn.as_chat() for turn in marked], tokenize=False, add_generation_prompt=True
    )
    stretches, at = [], 0
    for number, (turn, mark) in enumerate(zip(turns, marks, strict=True), start=1):
        before, found, rendered = rendered.partition(mark)
        words = next(
            (
                form
                for form in (turn.content, turn.content.strip())
                if prompt.startswith(before + form, at)
            ),
            None,
        )
        if not found or words is None:
            return []
        at += len(before)
        stretches.append(Stretch(at, at + len(words), turn.role, number))
        at += len(words)
    return stretches


def _between_special(row: RowText, tokenizer: "PreTrainedTokenizerBase") -> list[Stretch]:
    added = set(tokenizer.added_tokens_decoder)
    stretches: list[Stretch] = []
    start = None
    for at in range(row.num_prompt + 1):
        is_inside = at < row.num_prompt and row.ids[at] not in added
        if is_inside and start is None:
            start = at
        if not is_inside and start is not None:
            ends = row.places[start][0], row.places[at - 1][1]
            stretches.append(Stretch(*ends, "turn", len(stretches) + 1))
            start = None
    # The last opens the answer's turn, if there are others.
    return stretches[:-1] or stretches


def _units(row: RowText, stretches: Sequence[Stretch], kind: str) -> list[Unit]:
    return [unit for stretch in stretches for unit in _units_within(row, stretch, kind)]


def _units_within(row: RowText, stretch: Stretch, kind: str) -> Iterator[Unit]:
    # NB: from the second token on. One has to stay, from which the first of the answer follows.
    inside = [
        at
        for at in range(1, row.num_prompt)
        if stretch.start <= _first_character(row, at) < stretch.end
    ]
    bounds = _bounds(row, stretch, inside, kind)
    groups: list[list[int]] = [[] for _ in bounds]
    for at in inside:
        character = _first_character(row, at)
        last = max((n for n, start in enumerate(bounds) if start <= character), default=0)
        groups[last].append(at)
    # A token may hold two words: the second has none of its own then.
    for place, tokens in enumerate((group for group in groups if group), start=1):
        start, end = row.places[tokens[0]][0], row.places[tokens[-1]][1]
        text = row.text[start:end].strip()
        yield Unit(tuple(tokens), text, stretch.role, stretch.turn, place)


def _bounds(row: RowText, stretch: Stretch, inside: Sequence[int], kind: str) -> list[int]:
    if kind == "tokens":
        return [_first_character(row, at) for at in inside]
    if kind == "turns":
        return [stretch.start]
    pattern = _SENTENCE if kind == "sentences" else _WORD
    said = row.text[stretch.start : stretch.end]
    starts = [stretch.start + found.start() for found in pattern.finditer(said)]
    return starts or [stretch.start]


def _first_character(row: RowText, at: int) -> int:
    start, end = row.places[at]
    said = row.text[start:end]
    return start + len(said) - len(said.lstrip()) if said.strip() else start


def _together(units: Sequence[Unit]) -> Unit:
    return replace(
        units[0],
        tokens=tuple(token for unit in units for token in unit.tokens),
        text=" ".join(unit.text for unit in units),
    )


def _places(
    tokenizer: "PreTrainedTokenizerBase", ids: list[int]
) -> tuple[str, list[tuple[int, int]]]:
    text = _decoded(tokenizer, ids)
    again = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if again["input_ids"] == ids:
        return text, [tuple(place) for place in again["offset_mapping"]]
    # Tokenized apart at the answer, or cut: what is added by each token is its text.
    ends = [0]
    for at in range(1, len(ids) + 1):
        said = _decoded(tokenizer, ids[:at])
        # The first tokens of a character say nothing yet.
        ends.append(ends[-1] if said.endswith("\ufffd") else max(ends[-1], len(said)))
    ends[-1] = len(text)
    return text, list(pairwise(ends))


def _decoded(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
