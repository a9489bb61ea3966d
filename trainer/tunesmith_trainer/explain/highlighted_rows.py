"""Rows whose prompts have highlights, as tokens: what lies on them, and what beside them.

Highlights are sought in what is left of a prompt, whatever cleaning, a remedy or the context's
length did to it. A word that a highlight touches is highlighted; what the chat template writes
around turns is nobody's reason and counts on neither side.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tunesmith_trainer.data.highlights import Span, spans_in
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Highlight
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.explain.units import RowText, Stretch, Unit, joined, stretches_of, units_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# More than a prompt has words: none are joined.
_EVERY_WORD: Final = 1 << 30
# As `explain.maxUnits` has it by default, on either side.
_MOST_LEFT_OUT: Final = 24

Words = tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class HighlightedRow:
    """A row of which some words of the prompt are highlighted, and some are not.

    Attributes:
        number: of the row among those of its split.
        ids: its tokens, up to the end of the last answer.
        num_prompt: tokens before that answer.
        inside: highlighted words.
        outside: all other words.
    """

    number: int
    ids: tuple[int, ...]
    num_prompt: int
    inside: Words
    outside: Words

    @property
    def answered(self) -> tuple[tuple[int, ...], list[bool]]:
        """The tokens, and which of them are those of the last answer."""
        return self.ids, [at >= self.num_prompt for at in range(len(self.ids))]

    @property
    def chance(self) -> float:
        """Part of the words that are highlighted: their share where all words count alike."""
        return len(self.inside) / (len(self.inside) + len(self.outside))

    def left_out(self) -> Iterator[tuple[bool, Unit]]:
        """What is cut out of the prompt, each by itself, and whether it is highlighted.

        Of long prompts neighbours together, but never of both sides.
        """
        for is_inside, words in ((True, self.inside), (False, self.outside)):
            for unit in joined(words, most=_MOST_LEFT_OUT):
                yield is_inside, unit


@dataclass(frozen=True, slots=True)
class HighlightedRows:
    """The rows of a split with highlights of use, and how many others were given some.

    Attributes:
        rows: those of use, in order.
        lost: of how many rows the highlights are no longer in the prompt.
        whole: of how many rows they are all that is left of the prompt.
    """

    rows: list[HighlightedRow]
    lost: int = 0
    whole: int = 0

    @property
    def num_given(self) -> int:
        """Rows that were given highlights."""
        return len(self.rows) + self.lost + self.whole

    def in_words(self, split: str) -> str:
        """What became of those that are of no use; empty of none."""
        parts = [
            f"of {self.lost} the prompt no longer has them (cut off by training.sequenceLength, "
            "or changed by cleaning or a remedy)"
            if self.lost
            else "",
            f"of {self.whole} the prompt has nothing else" if self.whole else "",
        ]
        told = ", and ".join(part for part in parts if part)
        kind = "training" if split == "train" else "held-out"
        return (
            f"dataset.highlights: of {self.num_given} {kind} rows with highlights, {told}; these "
            "rows count as rows without"
            if told
            else ""
        )


def highlighted_rows(
    records: Iterable[RowRecord], tokens: TokenRows, tokenizer: "PreTrainedTokenizerBase"
) -> HighlightedRows:
    """Those of `records`, which are those of `tokens`, in order."""
    rows, lost, whole = list[HighlightedRow](), 0, 0
    for number, record in enumerate(records):
        if not record.highlights or record.messages is None:
            continue
        ids, trained = tokens.row(number)
        row = _row(number, record, ids.tolist(), trained.tolist(), tokenizer)
        if not row.inside:
            lost += 1
        elif not row.outside:
            whole += 1
        else:
            rows.append(row)
    return HighlightedRows(rows, lost, whole)


def _row(
    number: int,
    record: RowRecord,
    ids: list[int],
    trained: list[bool],
    tokenizer: "PreTrainedTokenizerBase",
) -> HighlightedRow:
    end = len(trained) - trained[::-1].index(True)
    start = end
    while start and trained[start - 1]:
        start -= 1
    text = RowText.of(tokenizer, ids[:end], num_prompt=start)
    messages = (record.messages or [])[:-1]
    # Of a prompt of one token nothing can be cut out, nor is there a turn in it.
    stretches = stretches_of(text, tokenizer, messages) if start > 1 else []
    _, units = units_of(text, stretches, kind="words", most=_EVERY_WORD)
    # Between the turns of a prompt that was cut stand line ends.
    words = [unit for unit in units if unit.text]
    spans = list(_spans(record, text, stretches))
    touched = [_is_touched(text, word, spans) for word in words]
    return HighlightedRow(
        number=number,
        ids=tuple(ids[:end]),
        num_prompt=start,
        inside=tuple(word for word, is_in in zip(words, touched, strict=True) if is_in),
        outside=tuple(word for word, is_in in zip(words, touched, strict=True) if not is_in),
    )


def _spans(record: RowRecord, row: RowText, stretches: Sequence[Stretch]) -> Iterator[Span]:
    """Characters of the row's text that are highlighted."""
    # Whose turn it is, is not known of a prompt that was cut.
    said = [each for each in stretches if row.text[each.start : each.end].strip()]
    asked = [each for each in said if each.role == "user"] or said
    for one in record.highlights:
        for stretch in stretches if one.number is None else asked[-1:]:
            found = spans_in(row.text[stretch.start : stretch.end], one.text)
            for start, end in found if one.number is None else _chosen(record, one, found):
                yield stretch.start + start, stretch.start + end


def _chosen(record: RowRecord, one: Highlight, found: Sequence[Span]) -> Sequence[Span]:
    """The one time that is meant, counted from the end: prompts are cut at their beginning."""
    said = [turn.content for turn in record.messages or () if turn.role == "user"]
    behind = len(spans_in(said[-1], one.text)) - (one.number or 0) if said else 0
    return [found[-behind]] if 0 < behind <= len(found) else []


def _is_touched(row: RowText, word: Unit, spans: Sequence[Span]) -> bool:
    start, end = row.places[word.tokens[0]][0], row.places[word.tokens[-1]][1]
    said = row.text[start:end]
    # A token brings the space before its word along.
    start += len(said) - len(said.lstrip())
    return any(first < end and start < last for first, last in spans)
